//! Loads every program of an eBPF object and says what the kernel made of it: instructions verified and sizes.
//! Not being permitted to load is said, and is no failure unless `--require` is given; a refusal by the verifier always is.

use std::{env, error::Error, ffi::OsString, process::ExitCode};

use anyhow::{Context, Result, bail};
use aya::{Ebpf, programs::Program};

/// `EPERM`. The verifier's own refusals are `EACCES` and `EINVAL`.
const NOT_PERMITTED: i32 = 1;

struct Args {
    object: OsString,
    require: bool,
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("objinfo: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args = parse(env::args_os().skip(1))?;
    match report(&args) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if is_not_permitted(error.as_ref()) => {
            println!("not loadable here: {error:#}");
            Ok(if args.require { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Err(error) => Err(error),
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Args> {
    let (options, mut objects): (Vec<_>, Vec<_>) = args.partition(|arg| arg == "--require");
    match (objects.pop(), objects.is_empty()) {
        (Some(object), true) => Ok(Args { object, require: !options.is_empty() }),
        (Some(_), false) | (None, _) => bail!("usage: objinfo [--require] OBJECT"),
    }
}

fn report(args: &Args) -> Result<()> {
    let mut object = Ebpf::load_file(&args.object)
        .with_context(|| format!("cannot load {}", args.object.to_string_lossy()))?;
    println!("{:<24} {:<10} {:>10} {:>8} {:>8}", "program", "type", "verified", "xlated", "jited");
    for (name, program) in object.programs_mut() {
        let kind = load(program).with_context(|| format!("the kernel refuses the program {name}"))?;
        let info = program.info().with_context(|| format!("no information on the program {name}"))?;
        println!(
            "{name:<24} {kind:<10} {:>10} {:>8} {:>8}",
            // Not told before 5.16.
            info.verified_instruction_count().map_or_else(|| "-".to_owned(), |count| count.to_string()),
            info.size_translated().map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            info.size_jitted(),
        );
    }
    Ok(())
}

/// Loads a program of a type that this project has, and names the type.
fn load(program: &mut Program) -> Result<&'static str> {
    if let Program::Xdp(xdp) = program {
        xdp.load()?;
        return Ok("xdp");
    }
    if let Program::SchedClassifier(classifier) = program {
        classifier.load()?;
        return Ok("tc");
    }
    bail!("unexpected program type {:?}", program.prog_type())
}

fn is_not_permitted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.and_then(std::io::Error::raw_os_error) == Some(NOT_PERMITTED) {
            return true;
        }
        next = error.source();
    }
    false
}
