//! `/metrics`: OpenMetrics text. Every number of the cores is in one of two tables, `COUNTERS` and `GAUGES`.

use super::cores::Snapshot;
use super::status::{About, confirm_name};
use crate::broker::report::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// What `/metrics` answers with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = (&'static str, &'static str);
type Of<T> = fn(&T) -> u64;

/// A number of each core, under one name.
struct Family<T: 'static> {
    /// Without the unit and `_total`, which the encoder appends.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    /// One per value of the label that tells them apart, if there are several.
    values: &'static [(Option<Label>, Of<T>)],
}

const COUNTERS: &[Family<Counters>] = &[
    Family {
        name: "pilotlight_dispatches",
        help: "Dispatches answered: hit (true), miss (false, no runner waited), unconfirmed (false, runners were offered the run and none was proved to have it).",
        unit: None,
        values: &[
            (Some(("outcome", "hit")), |c| c.hits),
            (Some(("outcome", "miss")), |c| c.misses.saturating_sub(c.misses_unconfirmed)),
            (Some(("outcome", "unconfirmed")), |c| c.misses_unconfirmed),
        ],
    },
    Family {
        name: "pilotlight_attempts",
        help: "Deliveries begun: a waiting poll was claimed for a run.",
        unit: None,
        values: &[(None, |c| c.attempts)],
    },
    Family {
        name: "pilotlight_attempts_ended",
        help: "Deliveries ended: confirmed, reset (the runner closed first), ack_timeout (its machine is silent), read_timeout (its process is frozen).",
        unit: None,
        values: &[
            (Some(("end", "confirmed")), |c| c.attempts_confirmed),
            (Some(("end", "reset")), |c| c.attempts_reset),
            (Some(("end", "ack_timeout")), |c| c.attempts_ack_timeout),
            (Some(("end", "read_timeout")), |c| c.attempts_read_timeout),
        ],
    },
    Family { name: "pilotlight_polls", help: "Polls held.", unit: None, values: &[(None, |c| c.polls)] },
    Family {
        name: "pilotlight_polls_ended",
        help: "Polls that ended without a run: left (the runner closed), expired (at its connection timeout), closed (drain, cordon, capacity).",
        unit: None,
        values: &[
            (Some(("end", "left")), |c| c.polls_left),
            (Some(("end", "expired")), |c| c.polls_expired),
            (Some(("end", "closed")), |c| c.polls_closed),
        ],
    },
    Family {
        name: "pilotlight_connect_requests",
        help: "GET /connect answered.",
        unit: None,
        values: &[(None, |c| c.connects)],
    },
    Family {
        name: "pilotlight_requests_rejected",
        help: "Requests answered with a 4xx or 5xx.",
        unit: None,
        values: &[(None, |c| c.rejected)],
    },
    Family {
        name: "pilotlight_connections_accepted",
        help: "Connections accepted.",
        unit: None,
        values: &[(None, |c| c.accepted)],
    },
    Family {
        name: "pilotlight_connections_refused",
        help: "Connections closed because a limit was reached: of all connections, of their address's, or (polls) of the keys remembered, of their key's polls, of their deployment's polls.",
        unit: None,
        values: &[
            (Some(("limit", "connections")), |c| {
                let polls = c.refused_keys + c.refused_per_key + c.refused_per_deployment;
                c.refused.saturating_sub(c.refused_per_address + polls)
            }),
            (Some(("limit", "address")), |c| c.refused_per_address),
            (Some(("limit", "keys")), |c| c.refused_keys),
            (Some(("limit", "key")), |c| c.refused_per_key),
            (Some(("limit", "deployment")), |c| c.refused_per_deployment),
        ],
    },
    Family {
        name: "pilotlight_requests_over_budget",
        help: "Requests refused, closed or answered false because too many bytes were in flight.",
        unit: None,
        values: &[(None, |c| c.refused_bytes)],
    },
    Family {
        name: "pilotlight_dispatches_forbidden",
        help: "Dispatches refused because their address may not send any (--dispatch-allow).",
        unit: None,
        values: &[(None, |c| c.dispatches_forbidden)],
    },
    Family {
        name: "pilotlight_connections_evicted",
        help: "Connections that had not sent a byte yet, closed to make room at the limit.",
        unit: None,
        values: &[(None, |c| c.evicted)],
    },
    Family {
        name: "pilotlight_requests_timed_out",
        help: "Connections closed because a request took longer than --request-timeout to arrive.",
        unit: None,
        values: &[(None, |c| c.requests_timed_out)],
    },
    Family {
        name: "pilotlight_connections_closed",
        help: "Connections closed, by either side.",
        unit: None,
        values: &[(None, |c| c.closed)],
    },
    Family {
        name: "pilotlight_accept_errors",
        help: "Accepts that failed for want of descriptors or memory.",
        unit: None,
        values: &[(None, |c| c.accept_errors)],
    },
    Family {
        name: "pilotlight_engine_shortages",
        help: "Bytes or completions of io_uring that waited a turn for want of room; always 0 with epoll.",
        unit: None,
        values: &[
            (Some(("what", "buffers")), |c| c.buffer_shortages),
            (Some(("what", "completions")), |c| c.queue_overflows),
        ],
    },
    Family {
        name: "pilotlight_received",
        help: "Bytes received from runners and supervisors.",
        unit: Some(Unit::Bytes),
        values: &[(None, |c| c.bytes_in)],
    },
    Family {
        name: "pilotlight_sent",
        help: "Bytes handed to the kernel for runners and supervisors.",
        unit: Some(Unit::Bytes),
        values: &[(None, |c| c.bytes_out)],
    },
    Family {
        name: "pilotlight_token_faults",
        help: "Polls whose deployment token is at fault, by what is wrong with it: refused in --token-mode enforce, held in log.",
        unit: None,
        values: &[
            (Some(("reason", "bare")), |c| c.token_bare),
            (Some(("reason", "malformed")), |c| c.token_malformed),
            (Some(("reason", "algorithm")), |c| c.token_algorithm),
            (Some(("reason", "signature")), |c| c.token_signature),
            (Some(("reason", "claims")), |c| c.token_claims),
            (Some(("reason", "expired")), |c| c.token_expired),
            (Some(("reason", "version")), |c| c.token_version),
        ],
    },
    Family {
        name: "pilotlight_token_verifications",
        help: "Token signatures computed: a good token is remembered and costs one.",
        unit: None,
        values: &[(None, |c| c.token_verifications)],
    },
    Family {
        name: "pilotlight_offers_sent",
        help: "Runs offered to another core.",
        unit: None,
        values: &[(None, |c| c.offers_sent)],
    },
    Family {
        name: "pilotlight_offers_returned",
        help: "Offers that another core had no waiting poll for after all.",
        unit: None,
        values: &[(None, |c| c.offers_returned)],
    },
];

const GAUGES: &[Family<super::cores::CoreState>] = &[
    Family {
        name: "pilotlight_waiting_polls",
        help: "Runners waiting for a run now.",
        unit: None,
        values: &[(None, |core| core.report.waiting)],
    },
    Family {
        name: "pilotlight_claimed_polls",
        help: "Deliveries under way now.",
        unit: None,
        values: &[(None, |core| core.report.claimed)],
    },
    Family {
        name: "pilotlight_connections",
        help: "Open connections.",
        unit: None,
        values: &[(None, |core| core.report.connections)],
    },
    Family {
        name: "pilotlight_in_flight",
        help: "Bytes of incomplete requests and of runs that are not delivered yet.",
        unit: Some(Unit::Bytes),
        values: &[(None, |core| core.report.buffered_bytes)],
    },
    Family {
        name: "pilotlight_core_stalled",
        help: "1 if the core did not answer within a second: its other numbers are old.",
        unit: None,
        values: &[(None, |core| core.stalled as u64)],
    },
];

/// Numbers of the process, not of a core.
struct Process {
    draining: bool,
    cordons: usize,
    connections_max: usize,
    uptime_seconds: f64,
}

/// Writes the page.
pub fn render(about: About, connections_max: usize, snapshot: &Snapshot) -> String {
    let mut registry = Registry::default();
    let build = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("engine", about.engine),
        ("confirm", confirm_name(about.confirm)),
    ]);
    registry.register("pilotlight_build", "What is running", build);
    registry.register_collector(Box::new(Page {
        snapshot: snapshot.clone(),
        process: Process {
            draining: about.draining,
            cordons: super::drain::in_force(snapshot).len(),
            connections_max,
            uptime_seconds: about.uptime.as_secs_f64(),
        },
    }));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a String takes whatever is written");
    page
}

struct Page {
    snapshot: Snapshot,
    process: Process,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Process { draining, cordons, connections_max, uptime_seconds } = self.process;
        for (name, help, unit, value) in [
            ("pilotlight_draining", "1 once the process is on its way out.", None, f64::from(draining)),
            (
                "pilotlight_cordons",
                "Nodes and deployments that runs are kept away from.",
                None,
                cordons as f64,
            ),
            ("pilotlight_connections_limit", "Connections that may be open.", None, connections_max as f64),
            ("pilotlight_uptime", "Since the workers started to serve.", Some(Unit::Seconds), uptime_seconds),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)?;
        }
        for family in GAUGES {
            self.family(&mut encoder, family, MetricType::Gauge, |core| core)?;
        }
        for family in COUNTERS {
            self.family(&mut encoder, family, MetricType::Counter, |core| &core.report.counters)?;
        }
        Ok(())
    }
}

impl Page {
    fn family<T>(
        &self,
        encoder: &mut DescriptorEncoder,
        family: &Family<T>,
        kind: MetricType,
        of: impl Fn(&super::cores::CoreState) -> &T,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), kind)?;
        for core in &self.snapshot.cores {
            for (label, value) in family.values {
                let index = core.report.core.to_string();
                let labels: Vec<(&str, &str)> =
                    std::iter::once(("core", index.as_str())).chain(*label).collect();
                let sample = metric.encode_family(&labels)?;
                let value = value(of(core));
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(sample)?,
                    _ => ConstGauge::new(value).encode(sample)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::cores::CoreState;
    use super::super::testing::report;
    use super::*;
    use crate::broker::settings::Confirm;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn page(snapshot: &Snapshot) -> String {
        let about = About {
            engine: "epoll",
            uptime: Duration::from_millis(1_500),
            draining: true,
            confirm: Confirm::Ack,
        };
        render(about, 19_888, snapshot)
    }

    fn two_cores() -> Snapshot {
        let state = |core, stalled| CoreState { report: report(core, false), stalled };
        Snapshot { cores: vec![state(0, false), state(1, true)], with_keys: false }
    }

    #[test]
    fn the_page_says_what_the_cores_said() {
        let page = page(&two_cores());
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            &format!("pilotlight_build_info{{version=\"{version}\",engine=\"epoll\",confirm=\"ack\"}} 1"),
            "# TYPE pilotlight_dispatches counter",
            "pilotlight_dispatches_total{core=\"0\",outcome=\"hit\"} 100",
            "pilotlight_dispatches_total{core=\"1\",outcome=\"hit\"} 101",
            "pilotlight_dispatches_total{core=\"1\",outcome=\"miss\"} 45",
            "pilotlight_dispatches_total{core=\"1\",outcome=\"unconfirmed\"} 5",
            "# UNIT pilotlight_received_bytes bytes",
            "pilotlight_received_bytes_total{core=\"0\"} 1000",
            "pilotlight_waiting_polls{core=\"1\"} 11",
            "pilotlight_core_stalled{core=\"0\"} 0",
            "pilotlight_core_stalled{core=\"1\"} 1",
            "pilotlight_draining 1.0",
            "pilotlight_connections_limit 19888.0",
            "pilotlight_uptime_seconds 1.5",
        ] {
            assert!(page.lines().any(|got| got == line), "{line} is not in:\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn every_counter_is_on_the_page() {
        // Give each counter a value of its own, and find them all.
        let numbers = Counters {
            accepted: 7_001,
            refused: 7_002 + 7_035 + 7_036 + 7_037 + 7_038,
            refused_per_address: 7_035,
            refused_keys: 7_036,
            refused_per_key: 7_037,
            refused_per_deployment: 7_038,
            refused_bytes: 7_039,
            dispatches_forbidden: 7_040,
            accept_errors: 7_003,
            closed: 7_004,
            bytes_in: 7_005,
            bytes_out: 7_006,
            connects: 7_007,
            polls: 7_008,
            polls_left: 7_009,
            polls_expired: 7_010,
            polls_closed: 7_011,
            hits: 7_012,
            misses: 7_013 + 7_014,
            misses_unconfirmed: 7_014,
            rejected: 7_015,
            attempts: 7_016,
            attempts_confirmed: 7_017,
            attempts_reset: 7_018,
            attempts_ack_timeout: 7_019,
            attempts_read_timeout: 7_020,
            offers_sent: 7_021,
            offers_returned: 7_022,
            evicted: 7_023,
            requests_timed_out: 7_024,
            buffer_shortages: 7_025,
            queue_overflows: 7_026,
            token_verifications: 7_027,
            token_bare: 7_028,
            token_malformed: 7_029,
            token_algorithm: 7_030,
            token_signature: 7_031,
            token_claims: 7_032,
            token_expired: 7_033,
            token_version: 7_034,
        };
        let mut snapshot = two_cores();
        snapshot.cores.truncate(1);
        snapshot.cores[0].report.counters = numbers;
        let page = page(&snapshot);
        let seen: BTreeSet<u64> = page
            .lines()
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .filter(|value| (7_001..7_100).contains(value))
            .collect();
        assert_eq!(seen, (7_001..=7_040).collect());
    }

    #[test]
    fn names_are_prefixed_and_no_family_comes_twice() {
        let page = page(&two_cores());
        let mut families = BTreeSet::new();
        for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(name.starts_with("pilotlight_"), "{name}");
            assert!(families.insert(name), "{name} comes twice");
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
        assert_eq!(families.len(), COUNTERS.len() + GAUGES.len() + 5);
    }
}
