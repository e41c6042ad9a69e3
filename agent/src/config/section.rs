//! One TOML table with the keys that it may have. Every getter reports what is wrong and goes on,
//! so that one reading of a file finds all of its mistakes.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Findings;
use super::value;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

/// One table.
pub(crate) struct Section<'t> {
    /// As it is written: `[timing]`, `[[link]]`.
    title: &'static str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    /// Keys that something misspelt in the table was probably meant to be.
    misspelt: Vec<String>,
}

impl<'t> Section<'t> {
    /// Takes a table, and reports the keys that it should not have.
    pub(crate) fn new(
        title: &'static str,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        keys: &[&str],
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut misspelt = Vec::new();
        for key in table.keys() {
            let written: &str = key.get_ref();
            if !keys.contains(&written) {
                findings.error(key.span(), format!("{title} has no key `{written}`"), advice(written, keys));
                misspelt.extend(near(written, keys).map(|meant| (*meant).to_owned()));
            }
        }
        Self { title, table, span, misspelt }
    }

    pub(crate) fn title(&self) -> &'static str {
        self.title
    }

    /// Where the table's header stands.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where a key stands, the header if it is not there.
    pub(crate) fn key_span(&self, key: &str) -> Range<usize> {
        self.table.keys().find(|found| found.get_ref() == key).map_or(self.span(), Spanned::span)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = At<&'t str>> {
        self.table.keys().map(|key| At::new(key.get_ref().as_ref(), key.span()))
    }

    /// Reports that the table lacks `key`, unless it is there or a misspelt one was reported in its place.
    pub(crate) fn demand(
        &self,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
        findings: &mut Findings<'_>,
    ) {
        if !self.has(key) && !self.misspelt.iter().any(|meant| meant == key) {
            findings.missing(self.span(), message, help);
        }
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.iter().find(|(found, _)| found.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong_type(
        &self,
        key: &str,
        found: &Spanned<DeValue<'_>>,
        expected: &str,
        findings: &mut Findings<'_>,
    ) {
        findings.error(
            found.span(),
            format!("`{key}` in {} is {}, not {expected}", self.title, article(found.get_ref().type_str())),
            format!("write {expected}"),
        );
    }

    pub(crate) fn string(
        &self,
        key: &str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<At<&'t str>> {
        let found = self.get(key)?;
        if let Some(text) = found.get_ref().as_str() {
            return Some(At::new(text, found.span()));
        }
        self.wrong_type(key, found, &format!("a text, as in {key} = \"{example}\""), findings);
        None
    }

    /// A string that must be there.
    pub(crate) fn required(
        &self,
        key: &str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<At<&'t str>> {
        let message = format!("{} lacks `{key}`", self.title);
        self.demand(key, message, format!("add {key} = \"{example}\""), findings);
        self.string(key, example, findings)
    }

    pub(crate) fn boolean(&self, key: &str, findings: &mut Findings<'_>) -> Option<At<bool>> {
        let found = self.get(key)?;
        if let Some(value) = found.get_ref().as_bool() {
            return Some(At::new(value, found.span()));
        }
        self.wrong_type(key, found, &format!("true or false, as in {key} = true"), findings);
        None
    }

    pub(crate) fn integer(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        findings: &mut Findings<'_>,
    ) -> Option<At<u64>> {
        let found = self.get(key)?;
        integer(found, bounds.clone()).map(|value| At::new(value, found.span())).or_else(|| {
            let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
            let written = match found.get_ref() {
                DeValue::Integer(number) => number.to_string(),
                DeValue::String(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => article(found.get_ref().type_str()),
            };
            let message = format!("`{key}` in {} is {written}", self.title);
            findings.error(found.span(), message, format!("write {expected}"));
            None
        })
    }

    pub(crate) fn integers(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        findings: &mut Findings<'_>,
    ) -> Option<At<Vec<At<u64>>>> {
        let found = self.get(key)?;
        let Some(list) = found.get_ref().as_array() else {
            self.wrong_type(key, found, &format!("a list of numbers, as in {key} = [2, 3]"), findings);
            return None;
        };
        let mut values = Vec::new();
        for item in list.iter() {
            if let Some(value) = integer(item, bounds.clone()) {
                values.push(At::new(value, item.span()));
            } else {
                let expected = format!("whole numbers from {} to {}", bounds.start(), bounds.end());
                findings.error(item.span(), format!("`{key}` holds {expected}"), format!("write {expected}"));
            }
        }
        Some(At::new(values, found.span()))
    }

    pub(crate) fn strings(
        &self,
        key: &str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<At<Vec<At<&'t str>>>> {
        let found = self.get(key)?;
        let Some(list) = found.get_ref().as_array() else {
            self.wrong_type(key, found, &format!("a list of texts, as in {key} = {example}"), findings);
            return None;
        };
        let mut values = Vec::new();
        for item in list.iter() {
            if let Some(text) = item.get_ref().as_str() {
                values.push(At::new(text, item.span()));
            } else {
                self.wrong_type(key, item, &format!("a text, as in {key} = {example}"), findings);
            }
        }
        Some(At::new(values, found.span()))
    }

    /// A text, or a list of texts.
    pub(crate) fn texts(
        &self,
        key: &str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<At<Vec<At<&'t str>>>> {
        let found = self.get(key)?;
        match found.get_ref().as_str() {
            Some(text) => Some(At::new(vec![At::new(text, found.span())], found.span())),
            None => self.strings(key, &format!("[{example}]"), findings),
        }
    }

    /// An interval within bounds.
    pub(crate) fn duration(
        &self,
        key: &str,
        bounds: RangeInclusive<Duration>,
        findings: &mut Findings<'_>,
    ) -> Option<At<Duration>> {
        let found = self.get(key)?;
        let text = match found.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.wrong_type(key, found, &format!("an interval, as in {key} = \"10ms\""), findings);
                return None;
            }
        };
        let span = found.span();
        match value::duration(&text) {
            Err(error) => {
                findings.error(
                    span,
                    format!("`{key}` in {}: `{text}` {error}", self.title),
                    "write an interval as \"500us\", \"10ms\" or \"1.5s\"; a bare number is seconds",
                );
                None
            }
            Ok(value) if bounds.contains(&value) => Some(At::new(value, span)),
            Ok(value) => {
                let (least, most) =
                    (value::show_duration(*bounds.start()), value::show_duration(*bounds.end()));
                findings.error(
                    span,
                    format!(
                        "`{key}` in {} is {}, outside {least} to {most}",
                        self.title,
                        value::show_duration(value)
                    ),
                    format!("write an interval from \"{least}\" to \"{most}\""),
                );
                None
            }
        }
    }

    /// One of a list of words.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        findings: &mut Findings<'_>,
    ) -> Option<At<T>> {
        let text = self.string(key, words.first().map_or("", |(word, _)| word), findings)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(At::new(*value, text.span));
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("`{key}` in {} cannot be \"{}\"", self.title, text.value);
        findings.error(text.span, message, advice(text.value, &known));
        None
    }

    /// A table within this one.
    pub(crate) fn table(
        &self,
        key: &str,
        title: &'static str,
        keys: &[&str],
        findings: &mut Findings<'_>,
    ) -> Option<Section<'t>> {
        let found = self.get(key)?;
        if let Some(table) = found.get_ref().as_table() {
            return Some(Self::new(title, table, found.span(), keys, findings));
        }
        self.wrong_type(key, found, &format!("a table, as in {title}"), findings);
        None
    }

    /// A table with free keys.
    pub(crate) fn map(
        &self,
        key: &'static str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Section<'t>> {
        let found = self.get(key)?;
        if let Some(table) = found.get_ref().as_table() {
            return Some(Self { title: key, table, span: found.span(), misspelt: Vec::new() });
        }
        self.wrong_type(key, found, &format!("a table, as in {key} = {example}"), findings);
        None
    }

    /// All `[[key]]` of this table, at most `most`. The keys that each may have are checked by the caller's list.
    pub(crate) fn tables(
        &self,
        key: &str,
        title: &'static str,
        keys: &[&str],
        most: usize,
        findings: &mut Findings<'_>,
    ) -> Vec<Section<'t>> {
        let Some(found) = self.get(key) else { return Vec::new() };
        let Some(list) = found.get_ref().as_array() else {
            self.wrong_type(key, found, &format!("a list of tables, each under {title}"), findings);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (place, item) in list.iter().enumerate() {
            if place == most {
                findings.error(
                    item.span(),
                    format!("there are {} {title}, and at most {most} are possible", list.len()),
                    format!("leave at most {most}"),
                );
                break;
            }
            if let Some(table) = item.get_ref().as_table() {
                sections.push(Self::new(title, table, item.span(), keys, findings));
            } else {
                self.wrong_type(key, item, &format!("a table under {title}"), findings);
            }
        }
        sections
    }
}

fn integer(found: &Spanned<DeValue<'_>>, bounds: RangeInclusive<u64>) -> Option<u64> {
    let number = found.get_ref().as_integer()?;
    let value = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
    bounds.contains(&value).then_some(value)
}

/// The word that a misspelt one was probably meant to be.
pub(crate) fn near<'k, W: AsRef<str>>(written: &str, known: &'k [W]) -> Option<&'k W> {
    let distance = |word: &W| strsim::damerau_levenshtein(written, word.as_ref());
    let nearest = known.iter().min_by_key(|word| distance(word))?;
    let tolerance = (nearest.as_ref().chars().count() / 3).max(1);
    (distance(nearest) <= tolerance && !nearest.as_ref().is_empty()).then_some(nearest)
}

/// "did you mean", or the list of what is possible.
pub(crate) fn advice(written: &str, known: &[impl AsRef<str> + Display]) -> String {
    if let Some(word) = near(written, known) {
        return format!("did you mean `{word}`?");
    }
    let list: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
    match list.as_slice() {
        [] => "remove it".to_owned(),
        [only] => format!("write {only}"),
        [rest @ .., last] => format!("possible are {} and {last}", rest.join(", ")),
    }
}

fn article(kind: &str) -> String {
    match kind {
        "integer" | "array" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}
