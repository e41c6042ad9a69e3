//! Clients that wait for what became of a command, by its ticket.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

/// Most commands under way at once.
pub(super) const COMMANDS: usize = 16;

/// Where what became of a command goes.
type Client = oneshot::Sender<Result<(), String>>;

/// Who waits for which ticket.
#[derive(Default)]
pub(super) struct Waiting {
    clients: BTreeMap<u32, Client>,
    last: u32,
}

impl Waiting {
    /// A ticket for a client; `None` when too many wait, and the client is told. Zero is never given out: it is for those who do not wait.
    pub(super) fn take(&mut self, client: Client) -> Option<u32> {
        // Those who have gone away wait no more.
        self.clients.retain(|_, client| !client.is_closed());
        if self.clients.len() >= COMMANDS {
            let _ = client.send(Err("too many commands are under way".to_owned()));
            return None;
        }
        let ticket = self.ticket();
        self.clients.insert(ticket, client);
        Some(ticket)
    }

    /// A ticket that no client waits with.
    pub(super) fn ticket(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    /// Gives the answer to whoever waits for it, if somebody still does.
    pub(super) fn answer(&mut self, ticket: u32, result: Result<(), String>) {
        if let Some(client) = self.clients.remove(&ticket) {
            let _ = client.send(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::{COMMANDS, Waiting};

    #[test]
    fn each_client_gets_its_own_answer() {
        let mut waiting = Waiting::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let first = waiting.take(first).expect("a place");
        let second = waiting.take(second).expect("a place");
        let refused = Err("not now".to_owned());
        waiting.answer(second, refused.clone());
        waiting.answer(second, Ok(()));
        waiting.answer(0, Ok(()));
        assert_eq!(second_answer.try_recv(), Ok(refused));
        assert!(first_answer.try_recv().is_err(), "still waiting");
        waiting.answer(first, Ok(()));
        assert_eq!(first_answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn places_are_bounded_and_come_free_with_those_who_leave() {
        let mut waiting = Waiting::default();
        let clients: Vec<_> = (0..COMMANDS)
            .map(|_| {
                let (client, answer) = oneshot::channel();
                assert!(waiting.take(client).is_some());
                answer
            })
            .collect();
        let (client, mut answer) = oneshot::channel();
        assert!(waiting.take(client).is_none());
        assert!(answer.try_recv().is_ok_and(|answer| answer.is_err()), "it is told");
        drop(clients);
        let (client, _answer) = oneshot::channel();
        assert!(waiting.take(client).is_some());
    }
}
