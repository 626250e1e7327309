//! `pilotlight top`: a running broker in the terminal. One thread polls the admin side; the other
//! draws and reads keys.
//!
//! - [`view`]: the last answers, filtered and sorted; [`draw`]: draws them as one frame.

mod draw;
mod flags;
mod view;

#[cfg(test)]
mod testing;

pub use flags::{EXAMPLES, TopFlags};

use super::Failure;
use super::client::admin::{AdminClient, AdminError};
use crate::api::routes;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use view::{Action, Answers, Update, View};

/// The longest wait for a key.
const KEY_WAIT: Duration = Duration::from_millis(50);
/// The broker takes a sample of its history every ten seconds.
const HISTORY_INTERVAL: Duration = Duration::from_secs(10);
/// The least width of a printed frame.
const PLAIN_COLUMNS: u16 = 120;
const PLAIN_ROWS_MAX: usize = 20;
/// Rows that a page key scrolls.
const PAGE: i32 = 10;

/// Shows the broker until the user quits, or prints one frame.
pub fn run(flags: &TopFlags) -> Result<(), Failure> {
    let view = View::new(&flags.admin.admin, flags.sort, flags.search.as_deref());
    let every = Duration::from_millis(flags.every.0);
    let client = AdminClient::new(&flags.admin)?;
    if flags.once || !io::stdout().is_terminal() {
        return print_once(&client, view, every);
    }
    let terminal = ratatui::try_init().map_err(terminal_failure)?;
    let ended = watch(terminal, client, view, every);
    ratatui::restore();
    ended.map_err(terminal_failure)
}

fn terminal_failure(error: io::Error) -> Failure {
    Failure::failed(format!("cannot use the terminal: {error}. Use --once to print one frame"))
}

/// Prints one frame. It needs two updates, because rates are differences.
fn print_once(client: &AdminClient, mut view: View, every: Duration) -> Result<(), Failure> {
    view.take(Update::Answered(Box::new(fetch(client, 0, false)?)));
    thread::sleep(every);
    view.take(Update::Answered(Box::new(fetch(client, 0, true)?)));
    let columns = terminal::size().map_or(PLAIN_COLUMNS, |(columns, _)| columns.max(PLAIN_COLUMNS));
    let frame = plain_frame(&view, columns, draw::rows_wanted(&view, PLAIN_ROWS_MAX), false);
    write!(io::stdout(), "{frame}").map_err(Failure::output)
}

/// A frame as text, without colours.
fn plain_frame(view: &View, columns: u16, rows: u16, with_keys: bool) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
    let Ok(drawn) = terminal.draw(|frame| draw::draw(frame, view, with_keys));
    let rows = drawn.buffer.content.chunks(columns.max(1) as usize);
    let lines = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Fetches everything that a frame shows.
fn fetch(client: &AdminClient, after: u64, with_history: bool) -> Result<Answers, AdminError> {
    Ok(Answers {
        live: client.get(routes::LIVE)?,
        history: if with_history { Some(client.get(routes::HISTORY)?) } else { None },
        dispatches: client.get(&format!("{}?after={after}", routes::DISPATCHES))?,
    })
}

/// Sends an update at every interval, until the receiver is gone.
fn fetch_until_closed(client: &AdminClient, every: Duration, updates: &SyncSender<Update>) {
    let mut after = 0;
    let mut uptime = 0;
    let mut history_at: Option<Instant> = None;
    loop {
        let with_history = history_at.is_none_or(|at| at.elapsed() >= HISTORY_INTERVAL);
        let update = match fetch(client, after, with_history) {
            // The broker has restarted: fetch from the beginning.
            Ok(answers) if answers.live.uptime_seconds < uptime => {
                (after, uptime, history_at) = (0, 0, None);
                continue;
            }
            Ok(answers) => {
                (after, uptime) = (answers.dispatches.last, answers.live.uptime_seconds);
                if with_history {
                    history_at = Some(Instant::now());
                }
                Update::Answered(Box::new(answers))
            }
            Err(error) => Update::Gone(error.to_string()),
        };
        if updates.send(update).is_err() {
            return;
        }
        thread::sleep(every);
    }
}

fn watch(
    mut terminal: ratatui::DefaultTerminal,
    client: AdminClient,
    mut view: View,
    every: Duration,
) -> io::Result<()> {
    // Bounded: a paused view takes no update, so the other thread sends no more requests.
    let (sender, updates) = sync_channel(1);
    thread::spawn(move || fetch_until_closed(&client, every, &sender));
    loop {
        terminal.draw(|frame| draw::draw(frame, &view, true))?;
        if changed(&updates, &mut view)? == Next::Quit {
            return Ok(());
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Draw,
    Quit,
}

/// Waits until there is something to draw, or a key quits.
fn changed(updates: &Receiver<Update>, view: &mut View) -> io::Result<Next> {
    loop {
        // A paused view takes the waiting update when it resumes.
        if !view.paused {
            match updates.try_recv() {
                Ok(update) => {
                    view.take(update);
                    return Ok(Next::Draw);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(Next::Quit),
            }
        }
        if event::poll(KEY_WAIT)? {
            return Ok(match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match action(key, view) {
                    Some(Pressed::Action(action)) => {
                        view.apply(action);
                        Next::Draw
                    }
                    Some(Pressed::Quit) => Next::Quit,
                    None => continue,
                },
                Event::Resize(..) => Next::Draw,
                _ => continue,
            });
        }
    }
}

enum Pressed {
    Action(Action),
    Quit,
}

fn action(key: KeyEvent, view: &View) -> Option<Pressed> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Pressed::Quit);
    }
    let action = match key.code {
        KeyCode::Enter if view.typing => Action::Accept,
        KeyCode::Backspace if view.typing => Action::Backspace,
        KeyCode::Char(next) if view.typing => Action::Char(next),
        KeyCode::Esc if view.typing || !view.search.is_empty() => Action::Clear,
        KeyCode::Esc | KeyCode::Char('q') => return Some(Pressed::Quit),
        KeyCode::Char(' ' | 'p') => Action::Pause,
        KeyCode::Char('/') => Action::Search,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Tab => Action::Other,
        KeyCode::Down | KeyCode::Char('j') => Action::Lines(1),
        KeyCode::Up | KeyCode::Char('k') => Action::Lines(-1),
        KeyCode::PageDown => Action::Lines(PAGE),
        KeyCode::PageUp => Action::Lines(-PAGE),
        KeyCode::Home => Action::Lines(i32::MIN),
        KeyCode::End => Action::Lines(i32::MAX),
        _ => return None,
    };
    Some(Pressed::Action(action))
}

#[cfg(test)]
mod tests {
    use super::flags::PoolOrder;
    use super::*;

    #[test]
    fn keys_are_text_while_a_search_is_typed() {
        let mut view = View::new("http://a", PoolOrder::Waiting, None);
        let press = |view: &View, code| action(KeyEvent::new(code, KeyModifiers::NONE), view);
        assert!(matches!(press(&view, KeyCode::Char('q')), Some(Pressed::Quit)));
        assert!(matches!(press(&view, KeyCode::Char('/')), Some(Pressed::Action(Action::Search))));
        assert!(matches!(press(&view, KeyCode::Esc), Some(Pressed::Quit)));
        view.apply(Action::Search);
        assert!(matches!(press(&view, KeyCode::Char('q')), Some(Pressed::Action(Action::Char('q')))));
        assert!(matches!(press(&view, KeyCode::Esc), Some(Pressed::Action(Action::Clear))));
        let quit = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(matches!(action(quit, &view), Some(Pressed::Quit)));
    }
}
