//! Draws one frame. Names come from clients, so characters that would control the terminal are replaced.

use super::flags::PoolOrder;
use super::view::{List, View};
use crate::api::{Dispatch, Pool, Worker};
use crate::commands::cordon;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};
use std::time::Duration;

const KEYS: &str = "q quit  space pause  / search  s sort  r reverse  tab, arrows scroll";
/// Rows above the lists.
const ABOVE: u16 = 4;
/// The worker list gets at most one eighth of a frame's height.
const WORKERS_SHARE: u16 = 8;

/// Rows of a frame that shows every list in full, up to `rows_max` rows of each.
pub fn rows_wanted(view: &View, rows_max: usize) -> u16 {
    let rows = |count: usize| count.clamp(1, rows_max) as u16 + 1;
    ABOVE + rows(view.live().workers.len()) + rows(view.pools().len()) + rows(view.runs().len())
}

/// Draws a frame. The footer with the keys is for terminals only.
pub fn draw(frame: &mut Frame, view: &View, with_keys: bool) {
    let area = frame.area();
    let keys = u16::from(with_keys);
    let lists = area.height.saturating_sub(ABOVE + keys);
    let workers = match with_keys {
        true => (view.live().workers.len() as u16).min((area.height / WORKERS_SHARE).max(1)) + 1,
        false => (view.live().workers.len().clamp(1, u16::MAX as usize - 1) as u16 + 1).min(lists),
    };
    let left = lists.saturating_sub(workers);
    let (pool_rows, run_rows) = (view.pools().len().max(1) as u16 + 1, view.runs().len().max(1) as u16 + 1);
    // Half of the rows each. A list that needs less leaves the rest to the other.
    let pools = pool_rows.min((left / 2).max(left.saturating_sub(run_rows)));
    let parts = [ABOVE, workers, pools, left.saturating_sub(pools), keys].map(Constraint::Length);
    let [above, workers, pools, runs, footer] = Layout::vertical(parts).areas(area);
    draw_above(frame, above, view);
    draw_workers(frame, workers, view);
    draw_pools(frame, pools, view, with_keys);
    draw_runs(frame, runs, view, with_keys);
    if with_keys {
        let line = match (view.typing, view.search.is_empty()) {
            (true, _) => format!("search: {}_   enter keeps it, esc clears it", printable(&view.search)),
            (false, false) => format!("only {:?} (esc shows all)  {KEYS}", printable(&view.search)),
            (false, true) => KEYS.to_owned(),
        };
        frame
            .render_widget(Paragraph::new(line).style(Style::new().add_modifier(Modifier::REVERSED)), footer);
    }
}

fn good() -> Style {
    Style::new().fg(Color::Green)
}

fn warning() -> Style {
    Style::new().fg(Color::Yellow)
}

fn failure() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn draw_above(frame: &mut Frame, area: Rect, view: &View) {
    let live = view.live();
    let (state, style) = match () {
        () if view.gone.is_some() => ("NO ANSWER", failure()),
        () if !view.known => ("asking", dim()),
        () if live.shutting_down => ("SHUTTING DOWN", failure()),
        () if view.paused => ("PAUSED", warning()),
        () => ("live", good()),
    };
    let mut title = vec![
        Span::styled(format!("{state}  "), style),
        Span::styled(printable(&view.admin), Style::new().add_modifier(Modifier::BOLD)),
    ];
    if view.known {
        title.push(Span::raw(format!(
            "  pilotlight {}  up {}  {}, confirm {}",
            printable(&live.version),
            seconds(live.uptime_seconds),
            printable(&live.engine),
            printable(&live.confirm)
        )));
    }
    let mut lines = vec![Line::from(title)];
    match (&view.gone, view.known) {
        (Some(why), _) => lines.push(Line::styled(format!("trying again: {}", printable(why)), failure())),
        (None, true) => lines.push(numbers(view)),
        (None, false) => {}
    }
    if view.known {
        lines.push(delivery(view));
        lines.push(last_hour(view, area.width));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn numbers(view: &View) -> Line<'static> {
    let live = view.live();
    let mut spans = Vec::new();
    match view.rates() {
        None => spans.push(Span::raw("counting  ")),
        Some(rates) => {
            spans.push(Span::raw(format!("{} runs/s  ", rate(rates.warm + rates.cold + rates.unconfirmed))));
            if let Some(percent) = rates.warm_percent() {
                let style = if percent >= 50.0 { good() } else { warning() };
                spans.push(Span::styled(format!("{percent:.1} % warm  "), style));
            }
            if rates.unconfirmed > 0.0 {
                spans.push(Span::styled(format!("{} unconfirmed/s  ", rate(rates.unconfirmed)), failure()));
            }
        }
    }
    spans.push(Span::raw(format!(
        "{} waiting  {} of {} connections",
        live.waiting, live.connections, live.connections_limit
    )));
    if let Some((reason, _)) = view.main_reason() {
        let words = format!("  cold mostly: {}", reason_in_words(reason));
        spans.push(Span::styled(words, warning()));
    }
    Line::from(spans)
}

fn delivery(view: &View) -> Line<'static> {
    let live = view.live();
    let latest =
        view.history.samples.iter().rev().find_map(|s| Some((s.delivery_p50_us?, s.delivery_p99_us?)));
    let mut spans = vec![Span::raw(match latest {
        Some((half, most)) => format!("delivery p50 {}, p99 {}  ", micros(half), micros(most)),
        None => "no delivery yet  ".to_owned(),
    })];
    spans.push(Span::raw(format!("{} warm, {} cold so far", live.warm, live.cold + live.unconfirmed)));
    if live.rejected > 0 {
        spans.push(Span::styled(format!(", {} rejected", live.rejected), failure()));
    }
    if !live.cordons.is_empty() {
        let names: Vec<String> = live.cordons.iter().map(cordon::in_words).collect();
        spans.push(Span::styled(format!("  cordoned: {}", printable(&names.join(", "))), warning()));
    }
    Line::from(spans)
}

/// The share of warm runs over the last hour, as bars one row high.
fn last_hour(view: &View, width: u16) -> Line<'static> {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const NAME: &str = "% warm, last hour ";
    let samples = &view.history.samples;
    let columns = (width as usize).saturating_sub(NAME.len()).max(1);
    let per_column = samples.len().div_ceil(columns).max(1);
    let level = |samples: &[crate::api::Sample]| {
        let warm: u64 = samples.iter().map(|sample| sample.warm).sum();
        let all: u64 = warm + samples.iter().map(|sample| sample.cold + sample.unconfirmed).sum::<u64>();
        match all {
            0 => ' ',
            all => LEVELS[(warm * (LEVELS.len() as u64 - 1) / all) as usize],
        }
    };
    let bars: String = samples.chunks(per_column).map(level).collect();
    Line::from(vec![Span::styled(NAME, dim()), Span::styled(bars, good())])
}

fn table(
    frame: &mut Frame,
    area: Rect,
    heading: Row<'static>,
    rows: Vec<Row<'static>>,
    widths: Vec<Constraint>,
) {
    let heading = heading.style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(heading).column_spacing(1), area);
}

/// Right-aligned in a column of this width.
fn right(text: impl std::fmt::Display, width: usize) -> String {
    format!("{text:>width$}")
}

fn draw_workers(frame: &mut Frame, area: Rect, view: &View) {
    let workers = &view.live().workers;
    let room = area.height.saturating_sub(1) as usize;
    let mut shown: Vec<&Worker> = workers.iter().collect();
    // If not all workers fit, the stalled ones come first.
    if workers.len() > room {
        shown.sort_by_key(|worker| std::cmp::Reverse((worker.stalled, worker.waiting)));
    }
    let row = |worker: &Worker| {
        let rate_of = view.worker_rate(worker.worker).map_or("-".to_owned(), rate);
        let times = [worker.turn_p99_us, worker.delivery_p99_us];
        let [turn, delivery] = times.map(|time| time.map_or("-".to_owned(), micros));
        let state = if worker.stalled { "STALLED" } else { "" };
        let row = Row::new([
            right(worker.worker, 6),
            right(worker.connections, 11),
            right(worker.waiting, 8),
            right(rate_of, 8),
            right(worker.offers_sent, 9),
            right(turn, 9),
            right(delivery, 12),
            state.to_owned(),
        ]);
        if worker.stalled { row.style(failure()) } else { row }
    };
    let rows = shown.iter().take(room).map(|worker| row(worker)).collect();
    let more = workers.len().saturating_sub(room);
    let more = if more > 0 { format!("and {more} more") } else { String::new() };
    let heading = Row::new([
        right("worker", 6),
        right("connections", 11),
        right("waiting", 8),
        right("runs/s", 8),
        right("to others", 9),
        right("turn p99", 9),
        right("delivery p99", 12),
        more,
    ]);
    let widths = [6, 11, 8, 8, 9, 9, 12].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    table(frame, area, heading, rows, widths.collect());
}

fn draw_pools(frame: &mut Frame, area: Rect, view: &View, with_keys: bool) {
    let pools = view.pools();
    let mark = |order: PoolOrder, name: &str| match (view.order == order, view.reversed) {
        (false, _) => name.to_owned(),
        (true, false) => format!("{name}↓"),
        (true, true) => format!("{name}↑"),
    };
    let numbers = [9, 8, 8, 8, 7].map(Constraint::Length);
    let widths: Vec<_> = [Constraint::Fill(2), Constraint::Fill(1)].into_iter().chain(numbers).collect();
    let columns = widths_of(area, &widths);
    let row = |pool: &&Pool| {
        let style = if pool.cordoned > 0 { warning() } else { Style::new() };
        Row::new([
            end_of(&pool.deployment, columns[0]),
            end_of(&pool.version, columns[1]),
            right(format!("{}/{}", pool.cpu, pool.memory), 9),
            right(pool.waiting, 8),
            right(pool.warm, 8),
            right(pool.cold, 8),
            right(seconds(pool.oldest_wait_ms / 1_000), 7),
        ])
        .style(style)
    };
    let rows = pools.iter().skip(view.pools_from).map(row).take(area.height as usize).collect();
    let cursor = if with_keys && view.scrolled == List::Pools { ">" } else { "" };
    let total = view.live().pools_total.max(pools.len());
    let name = format!("{cursor}pools {} of {total}", pools.len());
    let heading = Row::new([
        mark(PoolOrder::Name, &name),
        "version".to_owned(),
        right("vCPU/GB", 9),
        right(mark(PoolOrder::Waiting, "waiting"), 8),
        right(mark(PoolOrder::Warm, "warm"), 8),
        right(mark(PoolOrder::Cold, "cold"), 8),
        right(mark(PoolOrder::Oldest, "oldest"), 7),
    ]);
    table(frame, area, heading, rows, widths);
}

fn draw_runs(frame: &mut Frame, area: Rect, view: &View, with_keys: bool) {
    let runs = view.runs();
    let widths = [
        Constraint::Length(8),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(11),
        Constraint::Fill(3),
    ];
    let columns = widths_of(area, &widths);
    let row = |run: &&Dispatch| {
        let (outcome, style) = match run.outcome.as_str() {
            "warm" => ("warm", good()),
            "cold" => ("cold", warning()),
            other => (other, failure()),
        };
        let reason = run.reason.as_deref().map(reason_in_words);
        let why = match (run.outcome.as_str(), reason, &run.closest) {
            ("warm", ..) => micros(run.took_us),
            ("unconfirmed", ..) => "offered to runners; none proved that it has the run".to_owned(),
            (_, Some(reason), Some(closest)) => format!("{reason}: {closest}"),
            (_, reason, closest) => reason.or_else(|| closest.clone()).unwrap_or_default(),
        };
        Row::new([
            clock(run.at_ms),
            end_of(run.run.as_deref().unwrap_or("-"), columns[1]),
            end_of(run.deployment.as_deref().unwrap_or("-"), columns[2]),
            printable(outcome),
            printable(&why),
        ])
        .style(style)
    };
    let rows = runs.iter().skip(view.runs_from).map(row).take(area.height as usize).collect();
    let cursor = if with_keys && view.scrolled == List::Runs { ">" } else { "" };
    let heading = Row::new(
        ["UTC", &format!("{cursor}last runs"), "deployment", "", "after, or why"].map(str::to_owned),
    );
    table(frame, area, heading, rows, widths.into());
}

fn reason_in_words(reason: &str) -> String {
    match reason {
        "no_runner" => "no runner waits".to_owned(),
        other => printable(&other.replace('_', " ")),
    }
}

/// Cuts the start of a name that is too long: ids differ at their ends.
fn end_of(name: &str, width: u16) -> String {
    let name = printable(name);
    match name.chars().count().saturating_sub(width as usize) {
        0 => name,
        too_many => "…".chars().chain(name.chars().skip(too_many + 1)).collect(),
    }
}

/// The widths that the layout gives the columns of a table.
fn widths_of(area: Rect, widths: &[Constraint]) -> Vec<u16> {
    Layout::horizontal(widths).spacing(1).split(area).iter().map(|column| column.width).collect()
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.1}")
}

fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} us"),
        _ => format!("{} ms", us / 1_000),
    }
}

fn seconds(seconds: u64) -> String {
    // Two units are exact enough.
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let mut parts = text.split(' ');
    match (parts.next(), parts.next()) {
        (Some(first), Some(second)) => format!("{first} {second}"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

/// The time of day, in UTC.
fn clock(at_ms: u64) -> String {
    let second = at_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// `text` without control characters, and without those that change the direction of text.
fn printable(text: &str) -> String {
    let replaced = |next: char| {
        next.is_control()
            || matches!(next, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|next| if replaced(next) { '\u{fffd}' } else { next }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plain_frame;
    use super::super::testing::{answers, dispatch};
    use super::super::view::{Action, Answers, Update};
    use super::*;
    use crate::api::Dispatches;

    fn busy() -> View {
        let mut view = View::new("http://127.0.0.1:8042", PoolOrder::Waiting, None);
        view.take(answers(1_000, 10));
        view.take(answers(3_000, 30));
        view
    }

    fn shown(view: &View, width: u16, height: u16) -> String {
        plain_frame(view, width, height, true)
    }

    #[test]
    fn frame_shows_the_state_at_every_size() {
        let view = busy();
        for (width, height) in [(80, 24), (160, 50)] {
            let frame = shown(&view, width, height);
            for needle in [
                "live  http://127.0.0.1:8042  pilotlight 0.1.0  up 30s  epoll",
                "30.0 runs/s  66.7 % warm  12 waiting  25 of 1000 connections",
                "delivery p50 320 us, p99 1280 us  60 warm, 30 cold so far  cordoned: node",
                "% warm, last hour ",
                ">pools 2 of 2",
                "waiting↓",
                "deployment_b",
                "1m 1s",
                "run_2",
                "cold",
                "other version",
                "410 us",
                "q quit",
            ] {
                assert!(frame.contains(needle), "{needle:?} is not in\n{frame}");
            }
            assert!(frame.lines().count() <= height as usize);
        }
        assert!(shown(&view, 160, 50).contains("other version: 3 wait for 20260731.4"));
    }

    #[test]
    fn frame_fits_any_size() {
        for view in [busy(), View::new("http://a", PoolOrder::Name, Some("x"))] {
            for (width, height) in [(1, 1), (3, 40), (20, 5), (79, 7), (500, 200)] {
                shown(&view, width, height);
                plain_frame(&view, width, height, false);
            }
        }
    }

    #[test]
    fn frame_of_an_unreachable_broker_keeps_the_last_figures() {
        let mut view = busy();
        view.take(Update::Gone("cannot reach the broker: refused".to_owned()));
        let frame = shown(&view, 100, 24);
        assert!(frame.contains("NO ANSWER"), "{frame}");
        assert!(frame.contains("trying again: cannot reach the broker: refused"), "{frame}");
        assert!(frame.contains("deployment_b"), "{frame}");
        let never = shown(&View::new("http://a", PoolOrder::Name, None), 80, 24);
        assert!(never.contains("asking  http://a"), "{never}");
    }

    #[test]
    fn frame_shows_pause_search_and_scroll() {
        let mut view = busy();
        view.apply(Action::Pause);
        view.apply(Action::Search);
        "ment_a".chars().for_each(|next| view.apply(Action::Char(next)));
        let frame = shown(&view, 80, 24);
        assert!(frame.contains("PAUSED") && frame.contains("search: ment_a_"), "{frame}");
        assert!(frame.contains("pools 1 of 2") && !frame.contains("deployment_b"), "{frame}");
        view.apply(Action::Clear);
        view.apply(Action::Lines(1));
        let frame = shown(&view, 80, 24);
        assert!(!frame.contains("deployment_b"), "{frame}");
        view.apply(Action::Other);
        assert!(shown(&view, 80, 24).contains(">last runs"));
    }

    #[test]
    fn long_name_is_cut_at_its_start() {
        assert_eq!(end_of("deployment_abc", 14), "deployment_abc");
        assert_eq!(end_of("deployment_abc", 5), "…_abc");
        assert_eq!(end_of("ab", 0), "…");
        assert_eq!(reason_in_words("other_version"), "other version");
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        let mut view = busy();
        let mut hostile = dispatch(3);
        hostile.run = Some("\u{1b}[31mred\u{202e}\r\n".to_owned());
        let dispatches = Dispatches { last: 3, dispatches: vec![hostile] };
        view.take(Update::Answered(Box::new(Answers { dispatches, ..Answers::default() })));
        let frame = shown(&view, 160, 50);
        assert!(frame.contains("\u{fffd}[31mred"), "{frame}");
        assert!(!frame.contains(['\u{1b}', '\u{202e}', '\r']), "{frame}");
    }
}
