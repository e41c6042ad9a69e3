//! `cargo xtask bench peers`: starts each peer at its fastest setting, kills the serving node once and says what was seen.
//! Which settings are stable is found with it.

use std::process::ExitCode;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::network::Port;
use anyhow::Result;
use bench::peers::{Name, Pair};
use clap::Parser;

/// Tries peers.
#[derive(Parser)]
struct Arguments {
    /// Which; all without it
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Install them first
    #[arg(long)]
    install_peers: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    clock::catch_interrupts()?;
    if arguments.install_peers {
        bench::peers::install()?;
    }
    let names = if arguments.names.is_empty() { Name::ALL.to_vec() } else { arguments.names.clone() };
    for name in names {
        let software = name.software();
        if !software.is_installed() {
            println!("SKIP {}: not installed (--install-peers)", name.label());
            continue;
        }
        let setting = software.fastest();
        let mut pair = Pair::start(name, setting)?;
        let holder = pair.wait_whole()?;
        let quiet_from = clock::now_ns();
        clock::pause(Duration::from_secs(5))?;
        let flaps = (0..2).map(|node| pair.verdicts(node, quiet_from).len()).sum::<usize>();
        let survivor = usize::from(holder == 0);
        let fault_ns = clock::now_ns();
        pair.kill(holder);
        pair.bed.network.cut(Port { host: holder, bridge: 0 })?;
        let dead = clock::wait_for("a verdict", Duration::from_secs(15), || {
            Ok(pair.verdicts(survivor, fault_ns).first().copied())
        })
        .inspect_err(|_| pair.print_logs())?;
        let heard = pair.last_heard_ns(holder, survivor, dead);
        let served = clock::wait_for("an answer", Duration::from_secs(15), || {
            let answers = pair.bed.client.answers_since(fault_ns);
            Ok(answers.iter().find(|answer| usize::from(answer.node) == survivor).copied())
        })
        .inspect_err(|_| pair.print_logs())?;
        println!(
            "{}: holder n{holder}, {flaps} verdicts in 5 quiet s; dead {:.1} ms after the last sign (deadtime {:.1}), \
             served {:.1} ms after the fault; processes {:?}",
            name.label(),
            heard.map_or(f64::NAN, |heard| clock::ms_between(heard, dead)),
            pair.deadtime(survivor).as_secs_f64() * 1e3,
            clock::ms_between(fault_ns, served.sent_ns),
            pair.processes(survivor),
        );
        pair.bed.network.heal(Port { host: holder, bridge: 0 })?;
        pair.revive(holder)?;
        println!("{}: whole again, n{} serves", name.label(), pair.wait_whole()?);
    }
    Ok(())
}
