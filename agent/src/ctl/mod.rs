//! The control thread: serves people by socket, metrics and log. If it hangs, heartbeats go on: it shares bounded
//! queues and atomics with the realtime threads, and no lock.

pub mod event;
mod followers;
mod http;
mod hub;
pub mod label;
pub mod log;
pub mod metrics;
pub mod moment;
pub mod own;
pub mod pings;
pub mod process;
pub mod protocol;
mod server;
pub(crate) mod signals;
pub mod socket;
pub mod status;
pub mod teller;
mod text;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use crate::bridge::ControlSide;
use crate::settings::Settings;
use hub::Hub;
use signals::{Signals, Wish};
use socket::ControlSocket;

/// Requests of clients that wait for the hub.
const ASKS: usize = 32;
/// Signals that wait for the hub.
const WISHES: usize = 8;
/// How long clients may take to read their last lines at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until the rt thread has ended. A socket or a port that cannot be had is logged, and done without.
///
/// # Errors
/// The thread cannot wait for descriptors or signals at all.
pub fn run(side: ControlSide) -> io::Result<()> {
    within_runtime(async {
        let signals = Signals::new()?;
        let (wishes, wished) = mpsc::channel(WISHES);
        tokio::spawn(signals.forward(wishes));
        let result = serve(side, wished).await;
        // Nobody here takes them any more.
        signals::hold();
        result
    })
}

fn within_runtime(serving: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serving);
    runtime.shutdown_timeout(FAREWELL);
    result
}

async fn serve(side: ControlSide, wished: mpsc::Receiver<Wish>) -> io::Result<()> {
    let settings = Arc::clone(&side.settings);
    let (asks, asked) = mpsc::channel(ASKS);
    // Dropped at the end, which removes the path.
    let socket = match ControlSocket::bind(&settings.control_socket) {
        Ok(socket) => Some(socket),
        Err(error) => {
            error!("{error}{}; the agent goes on without commands", cause(&error));
            None
        }
    };
    let mut servers = JoinSet::new();
    let places = Arc::new(Semaphore::new(server::CLIENTS as usize));
    if let Some(socket) = &socket {
        servers.spawn(server::serve(socket.listener()?, Arc::clone(&places), asks.clone()));
    }
    if let Some(listener) = metrics_listener(&settings).await {
        servers.spawn(http::serve(listener, asks.clone()));
    }
    let mut hub = Hub::new(side, wished)?;
    let result = hub.run(asked, asks).await;
    drop(hub);
    servers.abort_all();
    // The followers have been told; their tasks end when they have written it.
    if tokio::time::timeout(FAREWELL, places.acquire_many(server::CLIENTS)).await.is_err() {
        debug!("some clients of the control socket did not read to the end");
    }
    result
}

async fn metrics_listener(settings: &Settings) -> Option<TcpListener> {
    let address = settings.metrics_listen?;
    match TcpListener::bind(address).await {
        Ok(listener) => {
            info!("metrics are served on http://{address}/metrics");
            Some(listener)
        }
        Err(error) => {
            error!("cannot serve metrics on {address}: {error}; the agent goes on without");
            None
        }
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(String::new, |source| format!(": {source}"))
}

#[cfg(test)]
mod tests;
