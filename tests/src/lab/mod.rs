//! The laboratory: whole clusters of real agents in network namespaces, with a client that notices every gap.
//! All of it is anonymous: namespaces, mounts and files belong to this process alone and end with it, however it ends.
//! The parts are [`network`] (who is joined to whom), [`cluster`] (the agents), [`client`] and [`echo`] (the service),
//! [`capture`] and [`inject`] (the wire).

pub mod agent;
pub mod bpf;
pub mod capture;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod echo;
pub mod events;
pub mod failover;
pub mod foreign;
pub mod frame;
pub mod inject;
pub mod loss;
pub mod metrics;
pub mod netns;
pub mod network;
pub mod observer;
pub mod process;
pub mod realtime;
pub mod scratch;
pub mod serial;
pub mod upgrade;
