//! `xbeat import`: reads heartbeat's files, writes or prints `xbeat.toml`, makes a key, and lists what is left to do.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_common::KeyId;
use clap::Args;

use super::{Exit, print};
use crate::config;
use crate::import::{self, FILE_MAX, FILL_IN, HaCf, Line, Remark, Remarks};
use crate::keys::generate::{self, KeygenError};

/// Which files.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// heartbeat's ha.cf
    ha_cf: PathBuf,
    /// heartbeat's haresources
    haresources: Option<PathBuf>,
    /// heartbeat's authkeys; its keys are replaced
    authkeys: Option<PathBuf>,
    /// Whose ha.cf it is, to tell addresses of ucast apart
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The ha.cf of another node, for its peers' addresses
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    also: Vec<(String, PathBuf)>,
    /// Write xbeat.toml and keys.toml into this directory, instead of printing [never overwrites]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write NAME=FILE, as in beta=/tmp/beta/ha.cf")?;
    Ok((name.to_lowercase(), PathBuf::from(file)))
}

/// What was made of the files.
struct Converted {
    text: String,
    first: String,
    remarks: Vec<Remark>,
}

pub(super) fn import(args: &ImportArgs) -> Exit {
    match convert(args).and_then(|converted| deliver(args, &converted)) {
        Ok(exit) => exit,
        Err((exit, error)) => {
            print::err(&format!("xbeat: {error}\n"));
            exit
        }
    }
}

type Failure = (Exit, String);

fn convert(args: &ImportArgs) -> Result<Converted, Failure> {
    let refused = |error: import::ImportError| (Exit::No, error.to_string());
    let mut remarks = Remarks::of(&args.ha_cf);
    let main = HaCf::read(&read(&args.ha_cf)?, &mut remarks).map_err(refused)?;
    let mut others = Vec::new();
    for (name, file) in &args.also {
        // What is remarked of theirs is remarked of the first.
        let other = HaCf::read(&read(file)?, &mut Remarks::of(file)).map_err(refused)?;
        others.push((name.clone(), other));
    }
    let node = args.node.as_ref().map(|node| node.to_lowercase());
    for name in node.iter().chain(others.iter().map(|(name, _)| name)) {
        if !main.nodes.contains(name) {
            let listed = main.nodes.join(", ");
            return Err((Exit::Usage, format!("{name} is no node of {} ({listed})", args.ha_cf.display())));
        }
    }
    let mut more = Vec::new();
    let mut lines = Vec::new();
    if let Some(file) = &args.haresources {
        let mut remarks = Remarks::of(file);
        lines = Line::read_all(&read(file)?, &mut remarks);
        more.extend(remarks.into_list());
    }
    if let Some(file) = &args.authkeys {
        let mut remarks = Remarks::of(file);
        import::authkeys(&read(file)?, &mut remarks);
        more.extend(remarks.into_list());
    }
    let text = import::toml(&main, node.as_deref(), &others, &lines, &mut remarks).map_err(refused)?;
    let mut remarks = remarks.into_list();
    remarks.extend(more);
    Ok(Converted { text, first: main.nodes.into_iter().next().unwrap_or_default(), remarks })
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| {
        let exit =
            if error.kind() == io::ErrorKind::PermissionDenied { Exit::NotPermitted } else { Exit::No };
        (exit, format!("cannot read {}: {error}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_MAX {
        return Err((Exit::No, format!("{} has {size} bytes: that is no file of heartbeat", path.display())));
    }
    Ok(String::from_utf8_lossy(&std::fs::read(path).map_err(failed)?).into_owned())
}

fn deliver(args: &ImportArgs, converted: &Converted) -> Result<Exit, Failure> {
    let mut said = String::new();
    for remark in &converted.remarks {
        said += &format!("{remark}\n");
    }
    let file = args.out.as_ref().map(|out| out.join("xbeat.toml"));
    let name = file.as_ref().map_or_else(|| "xbeat.toml".to_owned(), |file| file.display().to_string());
    let to_fill_in = converted.text.matches(FILL_IN).count();
    let complete = match config::parse(&name, &converted.text, &converted.first) {
        Ok((_, warnings)) => {
            for warning in &warnings {
                said += &format!("{}\n", warning.one_line(&name, "warning"));
            }
            true
        }
        Err(errors) => {
            said += &errors.render(config::Look::Plain);
            false
        }
    };
    match &args.out {
        None => {
            if let Err(exit) = print::out(&converted.text) {
                return Ok(exit);
            }
            said += "No key was made: `xbeat keygen` makes one\n";
        }
        Some(out) => {
            write(out, &name, &converted.text)?;
            let keys = out.join("keys.toml");
            let id = KeyId::new(1).ok_or_else(|| (Exit::No, "there is no key 1".to_owned()))?;
            generate::create(&keys, id).map_err(|error| (key_exit(&error), error.to_string()))?;
            said += &format!(
                "{name} and {} are written; copy both to /etc/xbeat of every node\n",
                keys.display()
            );
        }
    }
    said += &match (complete, to_fill_in) {
        (true, _) => "The configuration is valid; read what is above, then run `xbeat check` on every node\n"
            .to_owned(),
        (false, 0) => {
            "The configuration is not valid yet: correct what is above, then run `xbeat check`\n".to_owned()
        }
        (false, count) => {
            format!("{count} values are to be filled in (search for {FILL_IN}), then run `xbeat check`\n")
        }
    };
    print::err(&said);
    Ok(if complete { Exit::Done } else { Exit::No })
}

fn key_exit(error: &KeygenError) -> Exit {
    match error {
        KeygenError::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Exit::NotPermitted
        }
        KeygenError::Exists { .. }
        | KeygenError::Write { .. }
        | KeygenError::Random(_)
        | KeygenError::Present(_)
        | KeygenError::IdTaken { .. }
        | KeygenError::Full => Exit::No,
    }
}

/// Neither file may be there: half of an import would be worse than none.
fn write(out: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let keys = out.join("keys.toml");
    if keys.exists() {
        return Err((Exit::No, format!("{} is there already; nothing was written", keys.display())));
    }
    let failed = |error: io::Error| {
        let is = |kind| error.kind() == kind;
        if is(io::ErrorKind::AlreadyExists) {
            return (Exit::No, format!("{name} is there already; nothing was written"));
        }
        let exit = if is(io::ErrorKind::PermissionDenied) { Exit::NotPermitted } else { Exit::No };
        (exit, format!("cannot write {name}: {error}"))
    };
    std::fs::create_dir_all(out).map_err(failed)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(name).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
