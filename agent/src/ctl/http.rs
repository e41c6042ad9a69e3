//! `/metrics` over HTTP/1.1: one request a connection. Bounded in number, in size and in time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::hub::Ask;

/// Most connections at once.
const CONNECTIONS: usize = 16;
/// Longest request head.
const HEAD_MAX: usize = 8192;
/// How long one request may take from its first byte to its answer's last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Wait after an accept that failed, for descriptors to come free.
const PAUSE: Duration = Duration::from_millis(100);
/// Content type of OpenMetrics 1.0 text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Accepts for as long as the agent runs.
pub(super) async fn serve(listener: TcpListener, asks: mpsc::Sender<Ask>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let asks = asks.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(PATIENCE, connection(stream, &asks)).await {
                tracing::debug!("a client of /metrics: {error}");
            }
            drop(place);
        });
    }
}

/// What a request head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Metrics,
    Elsewhere,
    OtherMethod,
    Malformed,
}

async fn connection(mut stream: TcpStream, asks: &mpsc::Sender<Ask>) -> io::Result<()> {
    let target = match head(&mut stream).await? {
        Some(head) => target(&head),
        None => Target::Malformed,
    };
    let (status, kind, body) = match target {
        Target::Metrics => {
            let (reply, text) = oneshot::channel();
            let gone = |()| io::Error::other("the agent is ending");
            asks.send(Ask::Metrics(reply)).await.map_err(|_| gone(()))?;
            ("200 OK", OPEN_METRICS, text.await.map_err(|_| gone(()))?)
        }
        Target::Elsewhere => ("404 Not Found", PLAIN, "only /metrics is here\n".to_owned()),
        Target::OtherMethod => ("405 Method Not Allowed", PLAIN, "only GET is possible\n".to_owned()),
        Target::Malformed => ("400 Bad Request", PLAIN, "this is not an HTTP request\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Up to the empty line; `None` when there is none in [`HEAD_MAX`] bytes.
async fn head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while head.len() < HEAD_MAX {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(None);
        }
        head.extend(chunk.iter().take(count));
        if head.windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn target(head: &[u8]) -> Target {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return Target::Malformed };
    let mut words = line.split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    match (method, path, version) {
        (Some("GET"), Some(path), Some("HTTP/1.1" | "HTTP/1.0")) => {
            let path = path.split('?').next().unwrap_or_default();
            if path == "/metrics" { Target::Metrics } else { Target::Elsewhere }
        }
        (Some(_), Some(_), Some("HTTP/1.1" | "HTTP/1.0")) => Target::OtherMethod,
        (_, _, _) => Target::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Target::Metrics),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", Target::Metrics),
            ("GET / HTTP/1.1\r\n\r\n", Target::Elsewhere),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Target::Elsewhere),
            ("POST /metrics HTTP/1.1\r\n\r\n", Target::OtherMethod),
            ("GET /metrics\r\n\r\n", Target::Malformed),
            ("\u{16}\u{3}\u{1}", Target::Malformed),
        ] {
            assert_eq!(target(head.as_bytes()), expected, "{head:?}");
        }
    }
}
