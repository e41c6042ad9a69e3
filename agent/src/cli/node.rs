//! `xbeat node add` and `xbeat node remove`: the nodes that the configuration file does not list. Told to the running agent, or
//! written to its host cache when there is none.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use agent_common::NodeId;
use clap::{Args, Subcommand};

use super::{Exit, print};
use crate::client;
use crate::config;
use crate::ctl::protocol::Request;
use crate::ctl::socket;
use crate::hosts::HostLink;
use crate::rt::clock;
use crate::settings::{Autojoin, Settings};

/// What is done with a node.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Take in a node that the file does not list, or give one that joined an id or an address
    Add(AddArgs),
    /// Remove a node that joined; it may not join again by itself
    Remove {
        /// The node's name
        name: String,
        /// Even though it is heard
        #[arg(long)]
        force: bool,
    },
}

/// Of a node that is taken in.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The node's name
    name: String,
    /// Its id on the wire, the same on every node [default: the one that it has, or gives itself]
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..32))]
    id: Option<u8>,
    /// Its address on a link of type ucast, as in ucast:eth0=10.0.0.4
    #[arg(long = "address", value_name = "LINK=ADDRESS", value_parser = address)]
    addresses: Vec<(String, IpAddr)>,
}

fn address(text: &str) -> Result<(String, IpAddr), String> {
    let example = "write the link as `xbeat status` names it, '=' and an address, as in ucast:eth0=10.0.0.4";
    let (link, address) = text.rsplit_once('=').ok_or(example)?;
    let address = address.parse().map_err(|_| format!("`{address}` is not an IP address: {example}"))?;
    Ok((link.to_owned(), address))
}

pub(super) fn node(config: &Path, socket: Option<PathBuf>, command: NodeCommand) -> Exit {
    let settings = match config::load(config) {
        Ok((settings, _)) => settings,
        Err(errors) => {
            print::err(&errors.render(print::look()));
            return Exit::Configuration;
        }
    };
    let socket = socket.unwrap_or_else(|| settings.control_socket.clone());
    let (request, done) = match &command {
        NodeCommand::Add(AddArgs { name, id, addresses }) => {
            let request = Request::NodeAdd {
                name: name.clone(),
                id: *id,
                addresses: addresses.iter().cloned().collect(),
            };
            (request, added(&settings, name, *id, !addresses.is_empty()))
        }
        NodeCommand::Remove { name, force } => {
            let request = Request::NodeRemove { name: name.clone(), force: *force };
            (request, format!("{name} is removed here; remove it on every node"))
        }
    };
    if socket::answers(&socket) {
        return client::operate(config, Some(socket), &request, &done);
    }
    match without_agent(&settings, command) {
        Ok(_) => print::out(&format!("{done}\n")).err().unwrap_or(Exit::Done),
        Err(error) => {
            print::err(&format!("xbeat: {error}\n"));
            Exit::No
        }
    }
}

/// What is left to do. An address, and an id that this process has no room for, need a new process.
fn added(settings: &Settings, name: &str, id: Option<u8>, addressed: bool) -> String {
    let known = settings.nodes.iter().find(|node| node.name == name);
    let changed = id.is_some() && known.is_some();
    if addressed || changed || settings.autojoin == Autojoin::None {
        format!("{name} is taken in here from the next `xbeat restart` on; say the same on every node")
    } else {
        format!("{name} is taken in here; say the same on every node")
    }
}

fn without_agent(settings: &Settings, command: NodeCommand) -> Result<NodeId, String> {
    let mut hosts = HostLink::new(settings);
    let now_s = clock::wall_ns() / 1_000_000_000;
    match command {
        NodeCommand::Add(AddArgs { name, id, addresses }) => {
            hosts.add(settings, &name, id, addresses.into_iter().collect(), now_s)
        }
        NodeCommand::Remove { name, .. } => hosts.remove(settings, &name, now_s),
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn an_address_is_of_a_link() {
        assert_eq!(
            address("ucast:eth0=10.0.0.4"),
            Ok(("ucast:eth0".to_owned(), "10.0.0.4".parse().unwrap()))
        );
        assert_eq!(
            address("ucast:eth0#2=fd00::4"),
            Ok(("ucast:eth0#2".to_owned(), "fd00::4".parse().unwrap()))
        );
        assert!(address("10.0.0.4").unwrap_err().contains("ucast:eth0="));
        assert!(address("ucast:eth0=here").unwrap_err().contains("not an IP address"));
    }
}
