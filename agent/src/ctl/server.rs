//! Clients of the control socket: one request, one answer. Bounded in number, in size and in time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::followers::FOLLOWERS;
use super::hub::{Ask, Events, Wanted, changeover, joining};
use super::protocol::{Answer, REQUEST_MAX, RESULT_PATIENCE, Request};

/// Most clients at once: every follower and as many who ask.
pub(super) const CLIENTS: u32 = FOLLOWERS * 2;
/// How long a client may take to ask, and to read an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wait after an accept that failed, for descriptors to come free.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for as long as the agent runs. Each client takes one of [`CLIENTS`] places.
pub(super) async fn serve(listener: UnixListener, places: Arc<Semaphore>, asks: mpsc::Sender<Ask>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Without a place, the client is told by the connection's end.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let asks = asks.clone();
        tokio::spawn(async move {
            if let Err(error) = client(stream, &asks).await {
                tracing::debug!("a client of the control socket: {error}");
            }
            drop(place);
        });
    }
}

async fn client(stream: UnixStream, asks: &mpsc::Sender<Ask>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let request = match timeout(PATIENCE, request(&mut read)).await? {
        Ok(request) => request,
        Err(error) => return refuse(&mut write, &error.to_string()).await,
    };
    match request {
        Request::Status => {
            let (reply, status) = oneshot::channel();
            ask(asks, Ask::Status(reply)).await?;
            let status = status.await.map_err(|_| gone())?;
            answer(&mut write, &Answer::Status { status }).await
        }
        Request::Standby { group } => operate(&mut write, asks, Wanted::Standby(group)).await,
        Request::Takeover { group } => operate(&mut write, asks, Wanted::Takeover(group)).await,
        Request::Maintenance { on } => operate(&mut write, asks, Wanted::Maintenance(on)).await,
        Request::Restart => change_over(&mut write, asks, changeover::Wanted::Restart).await,
        Request::Reload => change_over(&mut write, asks, changeover::Wanted::Reload).await,
        Request::NodeAdd { name, id, addresses } => {
            join(&mut write, asks, joining::Wanted::Add { name, id, addresses }).await
        }
        Request::NodeRemove { name, force } => {
            join(&mut write, asks, joining::Wanted::Remove { name, force }).await
        }
        Request::Events { follow, lines } => {
            let (reply, events) = oneshot::channel();
            ask(asks, Ask::Events { follow, lines, reply }).await?;
            match events.await.map_err(|_| gone())? {
                Some(events) => events_to(&mut read, &mut write, events).await,
                None => refuse(&mut write, "too many are following already").await,
            }
        }
    }
}

/// Waits for what becomes of it, within bounds.
async fn operate(write: &mut OwnedWriteHalf, asks: &mpsc::Sender<Ask>, wanted: Wanted) -> io::Result<()> {
    let (reply, result) = oneshot::channel();
    ask(asks, Ask::Operate { wanted, reply }).await?;
    match timeout(RESULT_PATIENCE, result).await {
        Ok(Ok(Ok(()))) => answer(write, &Answer::Done).await,
        Ok(Ok(Err(error))) => refuse(write, &error).await,
        Ok(Err(_)) => Err(gone()),
        Err(_) => {
            let waited = RESULT_PATIENCE.as_secs();
            let error =
                format!("there is no result after {waited} s, and it may still come: see `xbeat events`");
            refuse(write, &error).await
        }
    }
}

/// The host cache is written before the answer.
async fn join(
    write: &mut OwnedWriteHalf,
    asks: &mpsc::Sender<Ask>,
    wanted: joining::Wanted,
) -> io::Result<()> {
    let (reply, result) = oneshot::channel();
    ask(asks, Ask::Join { wanted, reply }).await?;
    match result.await.map_err(|_| gone())? {
        Ok(()) => answer(write, &Answer::Done).await,
        Err(error) => refuse(write, &error).await,
    }
}

/// Waits until another process comes, or nothing changes. What becomes of that one is its to tell.
async fn change_over(
    write: &mut OwnedWriteHalf,
    asks: &mpsc::Sender<Ask>,
    wanted: changeover::Wanted,
) -> io::Result<()> {
    let (reply, result) = oneshot::channel();
    ask(asks, Ask::ChangeOver { wanted, reply }).await?;
    match result.await.map_err(|_| gone())? {
        Ok(changeover::Outcome::Keys) => answer(write, &Answer::Done).await,
        Ok(changeover::Outcome::Replacing(coming)) => {
            let changeover::Coming { socket, parts, started_ns, failures } = coming;
            let parts = parts.iter().map(|part| (*part).to_owned()).collect();
            answer(write, &Answer::Replacing { socket, started_ns, failures, parts }).await
        }
        Err(error) => refuse(write, &error).await,
    }
}

async fn request(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Request> {
    let mut line = String::new();
    read.take(REQUEST_MAX).read_line(&mut line).await?;
    serde_json::from_str(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn ask(asks: &mpsc::Sender<Ask>, ask: Ask) -> io::Result<()> {
    asks.send(ask).await.map_err(|_| gone())
}

fn gone() -> io::Error {
    io::Error::other("the agent is ending")
}

async fn refuse(write: &mut OwnedWriteHalf, error: &str) -> io::Result<()> {
    answer(write, &Answer::Refused { error: error.to_owned() }).await
}

async fn answer(write: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let line = serde_json::to_string(answer).map_err(io::Error::other)? + "\n";
    timeout(PATIENCE, write.write_all(line.as_bytes())).await?
}

async fn events_to(
    read: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    events: Events,
) -> io::Result<()> {
    answer(write, &Answer::Events).await?;
    for line in events.past {
        timeout(PATIENCE, write_line(write, &line)).await??;
    }
    let Some(mut future) = events.future else { return Ok(()) };
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            line = future.recv() => match line {
                // A stopped follower holds up itself alone; its backlog is bounded.
                Some(line) => write_line(write, &line).await?,
                None => return Ok(()),
            },
            // A follower says nothing; the end of its stream is its farewell.
            read = read.read(&mut byte) => if read? == 0 { return Ok(()) },
        }
    }
}

async fn write_line(write: &mut OwnedWriteHalf, line: &str) -> io::Result<()> {
    let mut text = String::with_capacity(line.len() + 1);
    text.push_str(line);
    text.push('\n');
    write.write_all(text.as_bytes()).await
}
