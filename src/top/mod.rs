//! `pilotlight top`: a running broker in the terminal. One thread asks its admin side, the other draws and reads keys.
//!
//! - [`answers`]: what the admin side says; [`view`]: what of it is to be seen; [`draw`]: a frame of that.

mod answers;
mod draw;
mod view;

#[cfg(test)]
mod testing;

use crate::cli::TopFlags;
use crate::control::client::{AskError, Asker};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use view::{Answers, Update, View, Wish};

/// A key is seen within this.
const GLANCE: Duration = Duration::from_millis(50);
/// The broker takes a sample of its history every ten seconds.
const HISTORY_INTERVAL: Duration = Duration::from_secs(10);
/// Of a frame that is printed.
const PLAIN_COLUMNS: u16 = 120;
const PLAIN_ROWS_MAX: usize = 20;
/// Rows that a page key scrolls.
const PAGE: i32 = 10;

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The URL cannot be used; or a frame was to be printed, and nobody answers.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The terminal.
    #[error("cannot use the terminal: {0}: --once prints one frame without")]
    Terminal(io::Error),
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Shows the broker until a key ends it, or once.
///
/// # Errors
/// The terminal cannot be used; for one frame also that nobody answers.
pub fn run(flags: &TopFlags) -> Result<(), TopError> {
    let view = View::new(&flags.admin, flags.sort, flags.search.as_deref());
    let every = Duration::from_millis(flags.every.0);
    let asker = Asker::new(&flags.admin)?;
    if flags.once || !io::stdout().is_terminal() {
        return print_once(&asker, view, every);
    }
    let terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let ended = watch(terminal, asker, view, every);
    ratatui::restore();
    ended
}

/// Two looks, for the rates between them.
fn print_once(asker: &Asker, mut view: View, every: Duration) -> Result<(), TopError> {
    view.take(Update::Answered(Box::new(look(asker, 0, false)?)));
    thread::sleep(every);
    view.take(Update::Answered(Box::new(look(asker, 0, true)?)));
    let columns = terminal::size().map_or(PLAIN_COLUMNS, |(columns, _)| columns.max(PLAIN_COLUMNS));
    let frame = plain_frame(&view, columns, draw::rows_wanted(&view, PLAIN_ROWS_MAX), false);
    write!(io::stdout(), "{frame}").map_err(TopError::Output)
}

/// A frame as text, without colours.
fn plain_frame(view: &View, columns: u16, rows: u16, with_keys: bool) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
    let Ok(drawn) = terminal.draw(|frame| draw::draw(frame, view, with_keys));
    let rows = drawn.buffer.content.chunks(columns.max(1) as usize);
    let lines = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Asks for everything that is shown.
fn look(asker: &Asker, after: u64, with_history: bool) -> Result<Answers, AskError> {
    Ok(Answers {
        live: asker.get("/api/live")?,
        hour: if with_history { Some(asker.get("/api/history")?) } else { None },
        dispatches: asker.get(&format!("/api/dispatches?after={after}"))?,
    })
}

/// Looks again and again, for as long as somebody listens.
fn keep_looking(asker: &Asker, every: Duration, updates: &SyncSender<Update>) {
    let mut after = 0;
    let mut uptime = 0;
    let mut history_at: Option<Instant> = None;
    loop {
        let with_history = history_at.is_none_or(|at| at.elapsed() >= HISTORY_INTERVAL);
        let update = match look(asker, after, with_history) {
            // Another process counts from the beginning: what it has is asked for at the next look.
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
    asker: Asker,
    mut view: View,
    every: Duration,
) -> Result<(), TopError> {
    // Bounded: while the view is held nobody asks on.
    let (sender, updates) = sync_channel(1);
    thread::spawn(move || keep_looking(&asker, every, &sender));
    loop {
        terminal.draw(|frame| draw::draw(frame, &view, true)).map_err(TopError::Terminal)?;
        if changed(&updates, &mut view).map_err(TopError::Terminal)? == Next::Leave {
            return Ok(());
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Draw,
    Leave,
}

/// Waits until there is something to draw, or the person has seen enough.
fn changed(updates: &Receiver<Update>, view: &mut View) -> io::Result<Next> {
    loop {
        // What is held is looked at again when it is let go, with what has come meanwhile.
        if !view.paused {
            match updates.try_recv() {
                Ok(update) => {
                    view.take(update);
                    return Ok(Next::Draw);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(Next::Leave),
            }
        }
        if event::poll(GLANCE)? {
            return Ok(match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match wish(key, view) {
                    Some(Pressed::Wish(wish)) => {
                        view.obey(wish);
                        Next::Draw
                    }
                    Some(Pressed::Leave) => Next::Leave,
                    None => continue,
                },
                Event::Resize(..) => Next::Draw,
                _ => continue,
            });
        }
    }
}

enum Pressed {
    Wish(Wish),
    Leave,
}

fn wish(key: KeyEvent, view: &View) -> Option<Pressed> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Pressed::Leave);
    }
    let wish = match key.code {
        KeyCode::Enter if view.typing => Wish::Accept,
        KeyCode::Backspace if view.typing => Wish::Backspace,
        KeyCode::Char(next) if view.typing => Wish::Char(next),
        KeyCode::Esc if view.typing || !view.search.is_empty() => Wish::Clear,
        KeyCode::Esc | KeyCode::Char('q') => return Some(Pressed::Leave),
        KeyCode::Char(' ' | 'p') => Wish::Pause,
        KeyCode::Char('/') => Wish::Search,
        KeyCode::Char('s') => Wish::Sort,
        KeyCode::Char('r') => Wish::Reverse,
        KeyCode::Tab => Wish::Other,
        KeyCode::Down | KeyCode::Char('j') => Wish::Lines(1),
        KeyCode::Up | KeyCode::Char('k') => Wish::Lines(-1),
        KeyCode::PageDown => Wish::Lines(PAGE),
        KeyCode::PageUp => Wish::Lines(-PAGE),
        KeyCode::Home => Wish::Lines(i32::MIN),
        KeyCode::End => Wish::Lines(i32::MAX),
        _ => return None,
    };
    Some(Pressed::Wish(wish))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::PoolOrder;

    #[test]
    fn keys_mean_what_the_footer_says_and_text_while_it_is_typed() {
        let mut view = View::new("http://a", PoolOrder::Waiting, None);
        let press = |view: &View, code| wish(KeyEvent::new(code, KeyModifiers::NONE), view);
        assert!(matches!(press(&view, KeyCode::Char('q')), Some(Pressed::Leave)));
        assert!(matches!(press(&view, KeyCode::Char('/')), Some(Pressed::Wish(Wish::Search))));
        assert!(matches!(press(&view, KeyCode::Esc), Some(Pressed::Leave)));
        view.obey(Wish::Search);
        assert!(matches!(press(&view, KeyCode::Char('q')), Some(Pressed::Wish(Wish::Char('q')))));
        assert!(matches!(press(&view, KeyCode::Esc), Some(Pressed::Wish(Wish::Clear))));
        let leave = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(matches!(wish(leave, &view), Some(Pressed::Leave)));
    }
}
