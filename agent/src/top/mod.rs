//! `xbeat top`: a live screen of one node's view, over the control socket. `q`, Esc or Ctrl-C ends it.

mod screen;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::cli::{Exit, print};
use crate::client::live::{self, News};
use screen::Screen;

/// Between two looks at the status.
const EVERY: Duration = Duration::from_millis(500);
/// How long a key may wait.
const LOOK: Duration = Duration::from_millis(100);

/// Shows the agent until the user has seen enough.
pub fn top(config: &Path, socket: Option<PathBuf>) -> Exit {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        print::err("xbeat: `xbeat top` needs a terminal: use `xbeat status`, or `xbeat events --follow`\n");
        return Exit::No;
    }
    let news = match live::watch(config, socket, EVERY) {
        Ok(news) => news,
        Err(exit) => return exit,
    };
    // Restores the terminal also when this panics.
    let terminal = ratatui::try_init();
    let shown = terminal.and_then(|mut terminal| show(&mut terminal, &news));
    ratatui::restore();
    match shown {
        Ok(()) => Exit::Done,
        Err(error) => {
            print::err(&format!("xbeat: the terminal cannot be used: {error}\n"));
            Exit::No
        }
    }
}

fn show(terminal: &mut ratatui::DefaultTerminal, news: &Receiver<News>) -> io::Result<()> {
    let mut screen = Screen::default();
    loop {
        while let Ok(new) = news.try_recv() {
            screen.take(new);
        }
        terminal.draw(|frame| screen.render(frame))?;
        if event::poll(LOOK)? && ends(&event::read()?) {
            return Ok(());
        }
    }
}

fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupted = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}
