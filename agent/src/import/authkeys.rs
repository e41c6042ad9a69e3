//! authkeys: read only to say what becomes of it. Its secrets are words for MD5 and SHA-1 that a person made up; xbeat wants 32
//! random bytes or more, so a new key is made.

use super::Remarks;

/// Remarks what was there; no secret is looked at, let alone shown.
pub fn authkeys(text: &str, remarks: &mut Remarks) {
    let mut known = false;
    for (line, number) in text.lines().zip(1..) {
        let mut words = line.split_whitespace();
        let (Some(first), method) = (words.next(), words.next()) else { continue };
        if first.starts_with('#') || first.starts_with('a') {
            continue;
        }
        match method {
            Some(method @ ("md5" | "sha1")) => {
                known = true;
                let text = format!(
                    "key {first} is a word for {method}: it is not taken over, a new key is made for HMAC-SHA256"
                );
                remarks.add(number, text);
            }
            Some("crc") => {
                known = true;
                remarks.add(number, format!("key {first} is a checksum and no key: a new one is made"));
            }
            Some(_) | None => remarks.add(number, "this is no line of authkeys"),
        }
    }
    if !known {
        remarks.add(0, "there is no key in it; a new one is made");
    }
}
