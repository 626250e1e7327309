//! The random choices of a seed: settings, clients, faults and the probability of each fault.

use super::net::Wire;
use super::rng::Rng;
use pilotlight::broker::settings::{Confirm, ConnectionLimit, MatchOrder, Settings, TokenMode};
use pilotlight::broker::token::Secrets;

/// With at most this much room for bytes in flight, the broker may refuse any request.
const BYTES_SCARCE: usize = 2 << 20;

/// Probabilities. Each is zero in about half of all worlds.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A read or a write is shorter than it could be.
    pub partial: f64,
    /// A socket's events arrive some turns late, after those of other sockets.
    pub held_back: f64,
    /// A fact about an earlier user of a slot.
    pub stale: f64,
    pub accept_fails: f64,
    /// The peer acknowledged, but no event reports it.
    pub ack_unannounced: f64,
    /// A worker does not run for a while.
    pub stall: f64,
    pub stall_max: u64,
    /// A worker stalls just after an offer, for about as long as its ACK and read timeouts.
    pub stall_on_offer: f64,
    /// A message between workers is slow.
    pub slow_mail: f64,
    pub slow_mail_max: u64,
    pub clock_jump: bool,
    pub loss: f64,
    pub delayed_ack: f64,
    /// A runner has a mishap when a response arrives.
    pub runner_on_response: f64,
    /// A runner has a mishap at a random moment of a poll.
    pub runner_on_poll: f64,
    /// A dispatch is timed to arrive at a poll's end.
    pub worst_moment: f64,
    /// Half of all runner mishaps are of this kind.
    pub favourite: u64,
    /// A supervisor has a mishap during a dispatch.
    pub supervisor: f64,
    /// A request is written in small pieces, with pauses.
    pub fragments: f64,
    /// More bytes follow a request that is not answered yet.
    pub pipelined: f64,
    /// A link is cut, forever or for a while.
    pub cut: f64,
}

/// A key.
#[derive(Clone, Debug)]
pub struct KeySpec {
    pub deployment: String,
    pub version: String,
    /// The same number, as the poll's header and as the dispatch's body spell it.
    pub cpu: (&'static str, &'static str),
    pub memory: (&'static str, &'static str),
}

/// A command of the control thread.
#[derive(Clone, Debug)]
pub enum AdminAct {
    CordonNode(usize),
    UncordonNode(usize),
    CordonDeployment(usize),
    UncordonDeployment(usize),
    Report,
    ShutDown,
}

/// When the control thread sends a command.
#[derive(Clone, Copy, Debug)]
pub enum When {
    At(u64),
    /// Just after this many attempts.
    Attempts(u64),
}

pub struct Plan {
    pub workers: usize,
    pub settings: Settings,
    pub faults: Faults,
    pub keys: Vec<KeySpec>,
    pub nodes: usize,
    pub runners: usize,
    pub supervisors: usize,
    pub strangers: usize,
    /// Clients begin no new request after this.
    pub busy_us: u64,
    pub dispatches: u64,
    pub message_bytes_max: u64,
    pub own_dispatch_listener: bool,
    pub admin: Vec<(When, AdminAct)>,
    /// Small buffers and long messages: a response takes many writes, and windows close.
    pub narrow: bool,
    pub rng: Rng,
}

impl Plan {
    pub fn draw(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        let own_dispatch_listener = rng.chance(0.5);
        let mut settings = settings(&mut rng, own_dispatch_listener);
        // A separate generator, so that the rest of the seed's plan does not depend on it.
        let mut apart = Rng::new(!seed);
        if apart.chance(0.15) {
            settings.buffered_bytes_max = apart.pick(&[0, 300_000, 600_000, BYTES_SCARCE]);
        }
        let keys = keys(&mut rng);
        let nodes = rng.range(1, 3) as usize;
        let busy_us = rng.range(1, 4) * settings.connection_timeout_ms.clamp(800, 4_000) * 1_000;
        let faults = faults(&mut rng);
        let admin = admin(&mut rng, busy_us, nodes, keys.len());
        let narrow = rng.chance(0.2);
        let workers = rng.pick(&[1, 1, 2, 2, 3, 4]);
        settings.connections = ConnectionLimit::of(settings.connections.common, workers);
        Plan {
            workers,
            faults,
            nodes,
            runners: rng.range(1, 10) as usize,
            supervisors: rng.range(1, 4) as usize,
            strangers: rng.pick(&[0, 0, 1, 3]),
            dispatches: rng.range(4, 40),
            message_bytes_max: if narrow { 20_000 } else { rng.pick(&[300, 300, 3_000, 300_000]) },
            narrow,
            own_dispatch_listener,
            busy_us,
            keys,
            admin,
            settings,
            rng,
        }
    }

    /// The broker may refuse requests because the bytes in flight are limited.
    pub fn bytes_scarce(&self) -> bool {
        self.settings.buffered_bytes_max <= BYTES_SCARCE
    }

    /// Draws the properties of a link.
    pub fn wire(&self, rng: &mut Rng) -> Wire {
        let faults = &self.faults;
        let delay = rng.pick(&[5, 30, 100, 500, 10_000]);
        Wire {
            delay,
            jitter: rng.pick(&[0, delay / 4, delay * 2]),
            loss: faults.loss,
            delayed_ack: faults.delayed_ack,
            segment: rng.pick(&[536, 1_448, 65_000]),
            client_receive_buffer: if self.narrow { 600 } else { rng.pick(&[600, 4_096, 65_536, 1 << 20]) },
            broker_send_buffer: if self.narrow { 2_048 } else { rng.pick(&[2_048, 16_384, 1 << 20]) },
        }
    }
}

/// Zero, or of any magnitude up to `max`.
fn probability(rng: &mut Rng, max: f64) -> f64 {
    if rng.chance(0.5) {
        return 0.0;
    }
    max / (1u64 << rng.below(7)) as f64
}

fn faults(rng: &mut Rng) -> Faults {
    // One world in eight has no faults of this kind, so that a failure there has another cause.
    let scale = if rng.chance(0.125) { 0.0 } else { 1.0 };
    let mut draw = |max: f64| probability(rng, max) * scale;
    Faults {
        partial: draw(1.0),
        held_back: draw(0.5),
        stale: draw(1.0),
        accept_fails: draw(0.3),
        ack_unannounced: draw(0.5),
        stall: draw(0.02),
        stall_max: 0,
        stall_on_offer: draw(0.5),
        slow_mail: draw(0.5),
        slow_mail_max: 0,
        clock_jump: draw(1.0) > 0.4,
        loss: draw(0.2),
        delayed_ack: draw(1.0),
        runner_on_response: draw(1.0),
        runner_on_poll: draw(1.0),
        worst_moment: draw(1.0),
        favourite: 0,
        supervisor: draw(0.5),
        fragments: draw(1.0),
        pipelined: draw(0.5),
        cut: draw(0.3),
    }
    .with_times(rng)
}

impl Faults {
    fn with_times(mut self, rng: &mut Rng) -> Faults {
        self.favourite = rng.next();
        self.stall_max = rng.pick(&[5_000, 100_000, 2_500_000]);
        self.slow_mail_max = rng.pick(&[1_000, 50_000, 3_000_000]);
        self
    }
}

fn settings(rng: &mut Rng, own_dispatch_listener: bool) -> Settings {
    let connection_timeout_ms = rng.pick(&[400, 1_000, 3_000, 30_000]);
    let dispatch_timeout_ms = rng.pick(&[400, 2_000, 2_000]);
    let guard_ms = match rng.below(4) {
        0 => 0,
        1 => rng.below(connection_timeout_ms),
        _ => (connection_timeout_ms / 10).min(500),
    };
    let connections_max = if rng.chance(0.15) { rng.range(1, 12) as usize } else { 10_000 };
    Settings {
        connection_timeout_ms,
        keepalive_ms: connection_timeout_ms * 10,
        // Divided when the number of workers is known.
        connections: ConnectionLimit { own: 0, common: connections_max },
        keys_max: if rng.chance(0.15) { rng.range(1, 4) as usize } else { 65_536 },
        body_bytes_max: rng.pick(&[400_000, 16 << 20]),
        head_bytes_max: rng.pick(&[1_024, 16_384]),
        request_timeout_ms: rng.pick(&[300, 5_000, 30_000]),
        idle_timeout_ms: rng.pick(&[200, 4_500, 60_000]),
        preconnect_timeout_ms: rng.pick(&[150, 2_000, 70_000]),
        write_timeout_ms: rng.pick(&[100, 1_000, 10_000]),
        match_order: rng.pick(&[MatchOrder::Newest, MatchOrder::Newest, MatchOrder::Oldest]),
        confirm: rng.pick(&[Confirm::Read, Confirm::Read, Confirm::Ack, Confirm::Write]),
        ack_timeout_ms: rng.pick(&[50, 300, 300]),
        read_timeout_ms: rng.pick(&[20, 300, 1_000]).min(dispatch_timeout_ms - 1),
        dispatch_timeout_ms,
        attempts_max: rng.pick(&[1, 2, 3, 3, 3, 10]),
        guard_ms,
        shutdown_time_ms: rng.pick(&[0, 100, 1_000, 5_000]),
        linger_ms: rng.pick(&[10, 1_000]),
        pipeline_bytes_max: rng.pick(&[16, 1_000, 65_536]),
        events: rng.chance(0.3),
        token_mode: TokenMode::Off,
        token_secrets: Secrets::default(),
        tokens_max: 16,
        dispatch_on_runner_side: !own_dispatch_listener || rng.chance(0.2),
        dispatch_from_anyone: true,
        connections_per_address_max: u32::MAX,
        polls_per_key_max: if rng.chance(0.1) { rng.range(1, 6) as usize } else { usize::MAX },
        polls_per_deployment_max: if rng.chance(0.1) { rng.range(1, 6) as usize } else { usize::MAX },
        buffered_bytes_max: 128 << 20,
    }
}

fn keys(rng: &mut Rng) -> Vec<KeySpec> {
    let numbers = [("1", "1"), ("0.5", "0.50"), ("0.5", "5e-1"), ("2", "2.0"), ("1000", "1e3")];
    let base = KeySpec {
        deployment: "deployment_a".into(),
        version: "20260701.1".into(),
        cpu: rng.pick(&numbers),
        memory: rng.pick(&numbers),
    };
    // Each key differs from the first in one field.
    let mut other_deployment = base.clone();
    other_deployment.deployment = "deployment_b".into();
    let mut other_version = base.clone();
    other_version.version = "20260701.2".into();
    let mut other_cpu = base.clone();
    other_cpu.cpu = ("4", "4");
    let mut other_memory = base.clone();
    other_memory.memory = ("8", "8");
    let mut all = vec![base, other_deployment, other_version, other_cpu, other_memory];
    all.truncate(rng.range(1, 5) as usize);
    all
}

fn admin(rng: &mut Rng, busy_us: u64, nodes: usize, keys: usize) -> Vec<(When, AdminAct)> {
    let mut acts = Vec::new();
    let count = rng.pick(&[0, 0, 0, 2, 8]);
    for _ in 0..count {
        let at = rng.below(busy_us);
        let uncordoned = at + rng.magnitude(busy_us / 2);
        match rng.below(4) {
            0 => {
                // Only the second key has another deployment than the first.
                let key = rng.index(keys.min(2));
                acts.push((When::At(at), AdminAct::CordonDeployment(key)));
                acts.push((When::At(uncordoned), AdminAct::UncordonDeployment(key)));
            }
            1 => {
                let node = rng.index(nodes);
                acts.push((When::At(at), AdminAct::CordonNode(node)));
                acts.push((When::At(uncordoned), AdminAct::UncordonNode(node)));
            }
            _ => acts.push((When::At(at), AdminAct::Report)),
        }
    }
    if rng.chance(0.35) {
        let when = match rng.chance(0.5) {
            true => When::At(rng.range(busy_us / 4, busy_us)),
            false => When::Attempts(rng.range(3, 12)),
        };
        acts.push((when, AdminAct::ShutDown));
    }
    acts
}
