//! The page, rendered from the results of a run.

use std::fmt::Write;

use harness::report::{CalmLoop, OpenLoop, median};

use crate::results::{Pair, Results, Window, cpu_us_per_match};
use crate::targets::{crowding, targets};

const METHOD: &str = include_str!("method.md");

/// The tables that the terminal shows at the end.
pub fn summary(results: &Results) -> String {
    format!("\n{}\n{}", closed_loop(results), reached(results))
}

pub fn page(results: &Results) -> String {
    let sections = [
        reached(results),
        closed_loop(results),
        syscalls(results),
        open_loop(results),
        pairs(results),
        memory(results),
        keys_and_workers(results),
        scale(results),
        METHOD.to_owned(),
    ];
    let sections: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    format!("# Benchmarks\n\n{}\n{}", preamble(results), sections.join("\n"))
}

fn preamble(results: &Results) -> String {
    let machine = &results.machine;
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let quick = if results.quick {
        "\n**A quick run: a check that everything works, not figures to quote.**\n"
    } else {
        ""
    };
    format!(
        "Written by `benches/compare/run`, which builds everything, runs it and writes this page.\n{quick}\n\
         Measured {} in {:.0} minutes on {} ({} cores, {} GiB, {} descriptors a process), Linux {}, \
         both ends on this machine.\n\n\
         Versions: {}.\n",
        machine.date,
        results.minutes,
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.descriptors,
        machine.kernel,
        versions.join("; ")
    )
}

fn reached(results: &Results) -> String {
    let rows = targets(results).into_iter().map(|target| {
        let unit = if target.unit.is_empty() { String::new() } else { format!(" {}", target.unit) };
        let measured = target.measured.map_or("–".to_owned(), |m| format!("{m:.2}{unit}"));
        let sign = if target.more_is_better { "≥ " } else { "" };
        let (must, aim) = (format!("{sign}{}{unit}", target.must), format!("{sign}{}{unit}", target.aim));
        let verdict = target.rating().to_owned();
        vec![target.figure, must, aim, measured, verdict]
    });
    let rows = rows.collect();
    table("What is to be reached", &["figure", "must", "aim", "measured", ""], rows) + &possible(results)
}

/// How much cheaper than Bun a loop that only confirms is: the best that any broker can reach.
fn possible(results: &Results) -> String {
    let ratio = |of: &str, over: &str| Some(results.cpu_us(of)? / results.cpu_us(over)?);
    let close = |of: &str| ratio("bun-serve-close", of);
    let read = (close("floor-epoll-read"), close("floor-epoll-read-rest"), close("pilotlight-epoll-read"));
    match (ratio("bun-serve", "floor-epoll-confirm"), read) {
        (Some(confirm), (Some(read), Some(rest), Some(ours))) => format!(
            "\nThe bare loops that confirm, without reading a byte of HTTP or JSON, are {confirm:.2} (`ack`, by announcements) \
             and {read:.2} (`read`) times as cheap as Bun, which confirms nothing; the latter with rests {rest:.2} times. What \
             it costs the kernel to make and end a connection for each run leaves no broker on epoll more than that; ours is \
             {ours:.2} times as cheap there.\n"
        ),
        _ => String::new(),
    }
}

/// Marks figures with disturbed windows.
fn disturbed<'a, T: 'a>(
    results: &Results,
    measured: impl Iterator<Item = &'a T>,
    disturbance: fn(&T, f64) -> f64,
) -> String {
    match measured.filter(|&measured| disturbance(measured, results.foreign_percent_max) > 1.0).count() {
        0 => String::new(),
        count => format!(" ({count} disturbed)"),
    }
}

fn closed_loop(results: &Results) -> String {
    let rows = results.servers.iter().filter_map(|server| {
        let windows = results.windows.get(&server.name)?;
        let cpu = windows.iter().map(|window| window.cpu_us_per_match);
        let of = |figure: fn(&Window) -> f64| results.window_median(&server.name, figure).unwrap_or(0.0);
        let cold: u64 = windows.iter().map(|window| window.dispatched.cold).sum();
        let warm: u64 = windows.iter().map(|window| window.dispatched.warm).sum();
        let mark = disturbed(results, windows.iter(), Window::disturbance);
        Some(vec![
            format!("`{}`", server.name),
            server.what.clone(),
            format!("**{:.2}**{mark}", results.cpu_us(&server.name)?),
            least_to_most(cpu),
            format!("{:.0}", results.warm_per_second(&server.name)?),
            format!("{:.2} %", cold as f64 * 100.0 / (warm + cold) as f64),
            format!("{:.0}", of(|window| window.dispatched.p50_us)),
            format!("{:.0}", of(|window| window.dispatched.p95_us)),
            format!("{:.0}", of(|window| window.dispatched.p99_us)),
            format!("{:.0}", of(|window| window.dispatched.max_us)),
            format!("{:.1}", of(|window| window.listening_ms)),
            server
                .binary_bytes
                .map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0)),
        ])
    });
    let head = [
        "server",
        "what",
        "CPU us/match",
        "least to most",
        "warm/s",
        "cold",
        "p50 us",
        "p95",
        "p99",
        "max",
        "listening after ms",
        "binary MiB",
    ];
    table("CPU per match, closed loop", &head, rows.collect())
}

fn syscalls(results: &Results) -> String {
    let rows = results.servers.iter().filter_map(|server| {
        let syscalls = results.syscalls.get(&server.name)?;
        let by_name: Vec<String> =
            syscalls.by_name.iter().map(|(name, n)| format!("{name} {n:.2}")).collect();
        Some(vec![format!("`{}`", server.name), format!("**{:.2}**", syscalls.per_match), by_name.join(", ")])
    });
    table("System calls per match", &["server", "per match", "the commonest"], rows.collect())
}

fn open_loop(results: &Results) -> String {
    let mut rows = Vec::new();
    for server in &results.servers {
        let Some(all) = results.latency.get(&server.name) else { continue };
        for percent in [25, 50, 75] {
            let reports: Vec<&OpenLoop> =
                all.iter().filter(|row| row.percent == percent).map(|row| &row.report).collect();
            if reports.is_empty() {
                continue;
            }
            let of =
                |figure: fn(&OpenLoop) -> f64| whole(median(reports.iter().map(|report| figure(report))));
            let calm = |figure: fn(&CalmLoop) -> f64| {
                median(reports.iter().filter_map(|report| report.calm.as_ref()).map(figure))
            };
            let sum = |figure: fn(&OpenLoop) -> u64| reports.iter().map(|report| figure(report)).sum::<u64>();
            let disturbed = disturbed(results, reports.iter().copied(), OpenLoop::disturbance);
            rows.push(vec![
                format!("`{}`", server.name),
                format!("{percent} %{disturbed}"),
                of(|report| report.rate),
                of(|report| report.to_runner_us.p50),
                of(|report| report.to_runner_us.p95),
                of(|report| report.to_runner_us.p99),
                of(|report| report.to_runner_us.max),
                whole(calm(|calm| calm.to_runner_us.p99)),
                whole(calm(|calm| calm.typical_p99_to_runner_us)),
                of(|report| report.to_answer_us.p50),
                of(|report| report.to_answer_us.p95),
                of(|report| report.to_answer_us.p99),
                of(|report| report.to_answer_us.max),
                whole(calm(|calm| calm.to_answer_us.p99)),
                tenth(calm(|calm| calm.left_out_percent)),
                sum(|report| report.counts.cold + report.counts.failed).to_string(),
                sum(|report| report.counts.true_but_not_delivered).to_string(),
            ]);
        }
    }
    let head = [
        "server",
        "of capacity",
        "per second",
        "to runner p50 us",
        "p95",
        "p99",
        "max",
        "p99 without stalls",
        "of the typical thousand",
        "to answer p50 us",
        "p95",
        "p99",
        "max",
        "p99 without stalls",
        "left out %",
        "not matched",
        "true, not delivered",
    ];
    let text = if results.realtime { "" } else { "At ordinary priority: this machine gives no other.\n" };
    with_text(table("Latency as the user has it, open loop", &head, rows), text)
}

fn pairs(results: &Results) -> String {
    let rows = results.servers.iter().filter_map(|server| {
        let pairs = results.pairs.get(&server.name)?;
        let of = |figure: fn(&Pair) -> f64| whole(median(pairs.iter().map(figure)));
        let calm = |side: fn(&Pair) -> &OpenLoop, figure: fn(&CalmLoop) -> f64| {
            median(pairs.iter().filter_map(|pair| side(pair).calm.as_ref()).map(figure))
        };
        let p99 = |side| whole(calm(side, |calm| calm.to_runner_us.p99));
        let typical_p99 = |side| whole(calm(side, |calm| calm.typical_p99_to_runner_us));
        let left_out = |side| tenth(calm(side, |calm| calm.left_out_percent));
        Some(vec![
            format!("`{}`", server.name),
            of(|pair| pair.ours.rate),
            of(|pair| pair.ours.to_runner_us.p50),
            of(|pair| pair.ours.to_runner_us.p95),
            of(|pair| pair.ours.to_runner_us.p99),
            p99(|pair| &pair.ours),
            typical_p99(|pair| &pair.ours),
            left_out(|pair| &pair.ours),
            format!("`{}`", pairs.first()?.floor_name),
            of(|pair| pair.floor.to_runner_us.p50),
            of(|pair| pair.floor.to_runner_us.p95),
            of(|pair| pair.floor.to_runner_us.p99),
            p99(|pair| &pair.floor),
            typical_p99(|pair| &pair.floor),
            left_out(|pair| &pair.floor),
        ])
    });
    let head = [
        "server",
        "per second",
        "to runner p50 us",
        "p95",
        "p99",
        "p99 without stalls",
        "of the typical thousand",
        "left out %",
        "its floor, right after",
        "p50",
        "p95",
        "p99",
        "p99 without stalls",
        "of the typical thousand",
        "left out %",
    ];
    table("The same, and the floor at the same rate", &head, rows.collect())
}

fn memory(results: &Results) -> String {
    let rows = results.servers.iter().filter_map(|server| {
        let resident = results.memory.get(&server.name)?;
        let mut workers = 1;
        let held: Vec<String> = resident
            .iter()
            .map(|row| {
                let other = if row.workers == workers {
                    String::new()
                } else {
                    format!("with {} workers ", row.workers)
                };
                workers = row.workers;
                format!("{other}{}: {:.1}", row.held, row.rss_bytes as f64 / 1_048_576.0)
            })
            .collect();
        let aborts = results.aborts.get(&server.name).map_or("–".to_owned(), |aborts| {
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            format!(
                "{}: {:.1} → {:.1}",
                aborts.done.aborted,
                mib(aborts.rss_before_bytes),
                mib(aborts.rss_after_bytes)
            )
        });
        let most = resident.last().map_or(0, |row| row.held);
        let per_held = results.bytes_per_held(&server.name);
        let per_held = per_held.map_or("–".to_owned(), |bytes| format!("**{bytes:.0}**, of {most}"));
        Some(vec![format!("`{}`", server.name), per_held, held.join("; "), aborts])
    });
    let head = ["server", "B per held poll, of how many", "polls held: RSS MiB", "polls aborted: RSS MiB"];
    let text = "A server with one table of descriptors holds what one process may have of them; ours holds that for each \
                of its workers.\n";
    with_text(table("Memory", &head, rows.collect()), text)
}

fn keys_and_workers(results: &Results) -> String {
    let cpu = |reports: &[OpenLoop], what: &str| {
        let rounds = least_to_most(reports.iter().map(|report| report.cpu_us_per_match));
        cpu_us_per_match(reports).map_or("–".to_owned(), |median| format!("{median:.2} ({rounds}; {what})"))
    };
    let crowd = |reports: &[OpenLoop]| {
        let what = reports.first().map_or(String::new(), |r| {
            let workers = if r.processes > 1 { format!(", {} workers", r.processes) } else { String::new() };
            format!("{} held, {} keys{workers}", r.counts.runners, r.counts.keys)
        });
        cpu(reports, &what)
    };
    let mut rows: Vec<Vec<String>> = results
        .servers
        .iter()
        .filter_map(|server| {
            let keys = results.keys.get(&server.name)?;
            let ratio = format!("{:.2}", crowding(results, &server.name)?);
            Some(vec![format!("`{}`", server.name), crowd(&keys.one), crowd(&keys.many), ratio])
        })
        .collect();
    if let Some(workers) = &results.workers {
        let one = cpu(&workers.one, "one worker");
        for (name, reports) in [("same core", &workers.together), ("other core", &workers.apart)] {
            let two = cpu(reports, &format!("two workers, dispatches on the {name}"));
            let ratio = cpu_us_per_match(reports)
                .zip(cpu_us_per_match(&workers.one))
                .map_or("–".to_owned(), |(two, one)| format!("{:.2}", two / one));
            rows.push(vec!["`pilotlight-epoll-ack`".to_owned(), one.clone(), two, ratio]);
        }
    }
    let text = "Open loop at 10,000 dispatches a second. Medians, and the least and the most of a round. A floor has \
                no keys: it takes a poll at random, which shows what of the ratio is the kernel's own, since \
                sockets that were used long ago are no longer in the caches. With several workers, the load has as \
                many processes, each with a key at least, and the same workers hold the few.\n";
    with_text(table("Many keys, two workers", &["server", "CPU us/match", "against", "ratio"], rows), text)
}

fn scale(results: &Results) -> String {
    let rows: Vec<Vec<String>> = results
        .scale
        .iter()
        .map(|report| {
            vec![
                report.counts.runners.to_string(),
                format!("{:.1}", report.rss_bytes as f64 / 1_048_576.0),
                format!("{:.2}", report.cpu_us_per_match),
                format!("{:.0}", report.to_runner_us.p50),
                format!("{:.0}", report.to_runner_us.p99),
                (report.counts.cold + report.counts.failed).to_string(),
                report.counts.renewed.to_string(),
            ]
        })
        .collect();
    let extrapolated = results.scale.first().zip(results.scale.last()).and_then(|(least, most)| {
        let polls = most.counts.runners.checked_sub(least.counts.runners).filter(|&polls| polls > 0)?;
        let each = (most.rss_bytes as f64 - least.rss_bytes as f64) / polls as f64;
        let million = least.rss_bytes as f64 + each * (1e6 - least.counts.runners as f64);
        Some(format!(
            "`pilotlight-epoll-ack` with {} on one core, the polls held and 10,000 dispatches a second throughout.\n\n\
             **Extrapolated, not measured:** a million held polls would take {:.0} MiB of the broker's own memory, at \
             the {each:.0} B per poll between the first and the last row. The kernel's memory for their sockets comes \
             on top.\n",
            if most.processes == 1 { "one worker".to_owned() } else { format!("{} workers", most.processes) },
            million / 1_048_576.0
        ))
    });
    let head =
        ["held", "RSS MiB", "CPU us/match", "to runner p50 us", "p99", "not matched", "polls that broke off"];
    with_text(table("Scale", &head, rows), &extrapolated.unwrap_or_default())
}

fn least_to_most(values: impl Iterator<Item = f64> + Clone) -> String {
    let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.fold(0.0, f64::max));
    format!("{least:.2} to {most:.2}")
}

fn whole(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.0}"))
}

fn tenth(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.1}"))
}

/// A table with a title, or nothing without rows.
fn table(title: &str, head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("## {title}\n\n| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn with_text(table: String, text: &str) -> String {
    if table.is_empty() || text.is_empty() { table } else { format!("{table}\n{text}") }
}
