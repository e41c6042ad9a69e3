//! What is wrong with a configuration file: each finding with its place, its reason and what to write instead.
//! Rendered with the source around it for a terminal, one line each for a log or a program.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
};
use thiserror::Error;

/// Most findings that are kept of one file; the rest is counted.
pub const FINDINGS_MAX: usize = 50;

/// One thing that is wrong, or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Bytes of the file that it is about.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    pub(crate) kind: Kind,
}

/// A finding that does not keep the file from being used.
pub type Warning = Finding;

/// What a finding rests on: a file with broken syntax lacks things that may stand in the broken part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TOML's grammar.
    Syntax,
    /// Something that stands there.
    Present,
    /// Something that does not.
    Missing,
}

impl Finding {
    /// As a single line: `file:line:column: severity: message; help`.
    pub fn one_line(&self, file: &str, severity: &str) -> String {
        let Self { line, column, message, help, .. } = self;
        format!("{file}:{line}:{column}: {severity}: {message}; {help}")
    }
}

/// Why a file gave no settings.
#[derive(Debug, Error)]
pub enum ConfigErrors {
    /// It could not be read at all.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It was read and is wrong.
    #[error("{}", InvalidLine(.0))]
    Invalid(Box<Invalid>),
}

/// Everything that is wrong with one file.
#[derive(Debug)]
pub struct Invalid {
    /// The file's name as it was given.
    pub name: String,
    /// Its text.
    pub text: String,
    /// In order of place.
    pub errors: Vec<Finding>,
    /// How many more there are than are listed.
    pub more: usize,
}

struct InvalidLine<'a>(&'a Invalid);

impl fmt::Display for InvalidLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.errors.len() + self.0.more;
        write!(out, "{}: {count} error{}", self.0.name, if count == 1 { "" } else { "s" })
    }
}

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One line each.
    Plain,
    /// The source around each, without colours.
    Framed,
    /// The source around each, in colours.
    Coloured,
}

impl ConfigErrors {
    /// The whole report, ending in a newline.
    pub fn render(&self, look: Look) -> String {
        match self {
            Self::Unreadable { path, source } => {
                let remedy = if source.kind() == std::io::ErrorKind::PermissionDenied {
                    "run as root, or as the owner of the file"
                } else {
                    "give the file with --config FILE"
                };
                format!("error: cannot read {}: {source}; {remedy}\n", path.display())
            }
            Self::Invalid(invalid) => invalid.render(look),
        }
    }
}

impl Invalid {
    fn render(&self, look: Look) -> String {
        let mut out = String::new();
        for error in &self.errors {
            match look {
                Look::Plain => out.push_str(&error.one_line(&self.name, "error")),
                Look::Framed => self.frame(error, GraphicalTheme::unicode_nocolor(), &mut out),
                Look::Coloured => self.frame(error, GraphicalTheme::unicode(), &mut out),
            }
            out.push('\n');
        }
        if self.more > 0 {
            // Writing to a String does not fail.
            let _ = writeln!(out, "... and {} more", self.more);
        }
        let _ = writeln!(out, "{}", InvalidLine(self));
        out
    }

    fn frame(&self, error: &Finding, theme: GraphicalTheme, out: &mut String) {
        let framed = Framed { error, source: NamedSource::new(&self.name, self.text.clone()) };
        let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(1).with_width(110);
        if handler.render_report(out, &framed).is_err() {
            out.push_str(&error.one_line(&self.name, "error"));
        }
    }
}

#[derive(Debug)]
struct Framed<'a> {
    error: &'a Finding,
    source: NamedSource<String>,
}

impl fmt::Display for Framed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.error.line, self.error.message)
    }
}

impl std::error::Error for Framed<'_> {}

impl Diagnostic for Framed<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.error.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.error.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Collects findings while a file is read.
#[derive(Debug)]
pub(crate) struct Findings<'t> {
    text: &'t str,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    more: usize,
}

impl<'t> Findings<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, errors: Vec::new(), warnings: Vec::new(), more: 0 }
    }

    /// Something that stands in the file is wrong.
    pub(crate) fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.push(Kind::Present, span, message.into(), help.into());
    }

    /// Something is not in the file.
    pub(crate) fn missing(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Kind::Missing, span, message.into(), help.into());
    }

    pub(crate) fn syntax(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.push(Kind::Syntax, span, message.into(), help.into());
    }

    pub(crate) fn warn(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let finding = self.place(Kind::Present, span, message.into(), help.into());
        if self.warnings.len() < FINDINGS_MAX {
            self.warnings.push(finding);
        }
    }

    fn push(&mut self, kind: Kind, span: Range<usize>, message: String, help: String) {
        let finding = self.place(kind, span, message, help);
        if self.errors.len() < FINDINGS_MAX {
            self.errors.push(finding);
        } else {
            self.more += 1;
        }
    }

    fn place(&self, kind: Kind, span: Range<usize>, message: String, help: String) -> Finding {
        let start = floor_boundary(self.text, span.start);
        let end = floor_boundary(self.text, span.end).max(start);
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Finding { span: start..end, line, column, message, help, kind }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }

    /// The warnings, in order of place.
    pub(crate) fn into_warnings(mut self) -> Vec<Warning> {
        self.warnings.sort_by_key(|warning| warning.span.start);
        self.warnings
    }

    /// The errors as the report of a configuration file.
    pub(crate) fn into_errors(self, name: &str) -> ConfigErrors {
        let text = self.text.to_owned();
        let (errors, more) = self.into_error_list();
        ConfigErrors::Invalid(Box::new(Invalid { name: name.to_owned(), text, errors, more }))
    }

    /// The errors in order of place, and how many more there are. Where the grammar is broken, nothing is said to
    /// be missing.
    pub(crate) fn into_error_list(mut self) -> (Vec<Finding>, usize) {
        if self.errors.iter().any(|error| error.kind == Kind::Syntax) {
            self.errors.retain(|error| error.kind != Kind::Missing);
        }
        self.errors.sort_by_key(|error| error.span.start);
        (self.errors, self.more)
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
