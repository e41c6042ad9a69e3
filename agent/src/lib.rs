//! The daemon `xbeat`: three threads around the pure core, and the commands that talk to it.
//! `rt` sends, reads the kernel's slots and decides; `takeover` moves addresses; `ctl` serves people.

pub mod bridge;
pub mod carry;
pub mod cli;
pub mod client;
pub mod config;
pub mod ctl;
pub mod doctor;
pub mod gate;
pub mod generation;
pub mod hosts;
pub mod import;
pub mod io;
pub mod keys;
pub mod links;
pub mod loss;
pub mod ping;
pub mod rt;
pub mod run;
pub mod serial;
pub mod settings;
pub mod stats;
pub mod takeover;
pub mod top;
pub mod watchdog;
