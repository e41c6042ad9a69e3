//! Writes the archive that a kernel unpacks into its first file system: cpio in the format "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Everything belongs to root, and has no time.

/// What stands at the start of each entry.
const MAGIC: &str = "070701";
/// The name of the last entry.
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const SYMLINK: u32 = 0o120_000;

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory, `mode` as chmod takes it. Parents come first.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, DIRECTORY | mode, (0, 0), &[]);
    }

    /// A file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), content);
    }

    /// A character device.
    pub fn device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | mode, (major, minor), &[]);
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, to: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), to.as_bytes());
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry(TRAILER, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let name = path.trim_start_matches('/');
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // Inode numbers only tell hard links apart: each entry has its own.
        if name != TRAILER {
            self.entries += 1;
        }
        let fields = [
            self.entries,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            size(content.len()),
            0, // device of the file
            0,
            device.0,
            device.1,
            size(name.len() + 1),
            0, // checksum, of another format
        ];
        self.bytes.extend(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Name and content each end at a multiple of four.
    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    /// (name, mode, content) of every entry, by a reader that follows the format's description alone.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |place: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * place..14 + 8 * place]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap().to_owned();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            let content = bytes[start..start + size].to_vec();
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        let mut archive = Archive::default();
        archive.directory("dev", 0o755);
        archive.device("dev/console", 0o600, 5, 1);
        for length in 0..9 {
            archive.file(&format!("/{}", "n".repeat(length + 1)), 0o755, &vec![b'x'; length]);
        }
        archive.symlink("init", "/bin/guest");
        let entries = read(&archive.finish());
        assert_eq!(entries.len(), 12);
        assert_eq!(entries[0], ("dev".to_owned(), 0o040_755, vec![]));
        assert_eq!(entries[1].1, 0o020_600);
        assert_eq!(entries[5], ("nnnn".to_owned(), 0o100_755, b"xxx".to_vec()));
        assert_eq!(entries[11], ("init".to_owned(), 0o120_777, b"/bin/guest".to_vec()));
    }

    /// The system's own reader, where there is one.
    #[test]
    fn the_system_reads_it_too() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut archive = Archive::default();
        archive.directory("etc", 0o755);
        archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n");
        let listed =
            Command::new("cpio").args(["-t", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = listed else {
            println!("SKIP: no cpio");
            return;
        };
        child.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "etc\netc/hosts\n");
    }
}
