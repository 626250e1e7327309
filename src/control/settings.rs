//! The settings in force, as their flags would be typed.

use super::state::confirm_name;
use crate::broker::settings::{MatchOrder, TokenMode};
use crate::config::{
    AdminChanges, EngineChoice, ListenSpec, LogFormat, SecretSource, ServeConfig, dispatch_is_shared,
};
use crate::sys::tls::{Files, Identity};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Every flag of `serve` and its value; `auto` replaced by what it came to.
pub fn in_force(config: &ServeConfig) -> Vec<(&'static str, String)> {
    let ServeConfig {
        listeners,
        dispatch_allow,
        admin_changes,
        process,
        workers,
        engine,
        coalesce,
        coalesce_from_percent,
        ack_check_from_events,
        ring_from_events,
        settings,
        connections_max,
        descriptors: _,
        own_tables,
        tcp,
        tls,
        log,
        watching,
        traces,
        tokens,
    } = config;
    let ms = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
    let listener = |spec: &ListenSpec| match spec {
        ListenSpec::Addr(addr) => addr.to_string(),
        ListenSpec::Unix(path) => format!("unix:{}", path.display()),
        ListenSpec::Fd(_) => "handed over by the service manager".to_owned(),
    };
    // Where they are, never what they are.
    let file = |identity: &Option<Arc<Identity>>, of: fn(&Files) -> &PathBuf| {
        identity.as_ref().map_or("none".to_owned(), |identity| of(identity.files()).display().to_string())
    };
    let bound = |max: Option<String>| max.unwrap_or_else(|| "off".to_owned());
    let cpus: Vec<String> = workers.iter().flatten().map(usize::to_string).collect();
    vec![
        ("--listen", listener(&listeners.runner)),
        ("--dispatch-listen", listeners.dispatch.as_ref().map_or("on --listen".to_owned(), listener)),
        ("--admin-listen", listener(&listeners.admin)),
        ("--unix-mode", format!("{:o}", listeners.unix_mode)),
        (
            "--dispatch-allow",
            match dispatch_allow {
                Some(nets) => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                None => "everybody who reaches it".to_owned(),
            },
        ),
        ("--insecure-shared-dispatch", dispatch_is_shared(listeners, dispatch_allow.is_some()).to_string()),
        (
            "--admin-token-file",
            match admin_changes {
                AdminChanges::ByAnyone => "none: whoever reaches the admin side may change something",
                AdminChanges::ByToken(_) => "given",
                AdminChanges::ByNobody => "none: nobody may change anything",
            }
            .to_owned(),
        ),
        (
            "--user",
            process
                .identity
                .as_ref()
                .map_or("unchanged".to_owned(), |user| format!("{}:{}", user.uid, user.gid)),
        ),
        ("--seccomp", process.seccomp.to_string()),
        ("--tls-cert", file(&tls.runner, |files| &files.cert)),
        ("--tls-key", file(&tls.runner, |files| &files.key)),
        ("--dispatch-tls-cert", file(&tls.dispatch, |files| &files.cert)),
        ("--dispatch-tls-key", file(&tls.dispatch, |files| &files.key)),
        (
            "--dispatch-client-ca",
            match tls.dispatch.as_ref().and_then(|identity| identity.files().client_ca.as_ref()) {
                Some(path) => path.display().to_string(),
                None => "none".to_owned(),
            },
        ),
        ("--takeover", listeners.takeover.to_string()),
        ("--backlog", tcp.backlog.to_string()),
        ("--cpus", if cpus.is_empty() { "not pinned".to_owned() } else { cpus.join(",") }),
        ("--workers", workers.len().to_string()),
        (
            "--engine",
            match engine {
                EngineChoice::Auto => "auto",
                EngineChoice::Epoll => "epoll",
                EngineChoice::IoUring => "io-uring",
            }
            .to_owned(),
        ),
        ("--descriptor-tables", if *own_tables { "worker" } else { "process" }.to_owned()),
        ("--coalesce", humantime::format_duration(*coalesce).to_string()),
        ("--coalesce-from-percent", coalesce_from_percent.to_string()),
        ("--connection-timeout", ms(settings.connection_timeout_ms)),
        ("--keepalive", ms(settings.keepalive_ms)),
        (
            "--match-order",
            match settings.match_order {
                MatchOrder::Newest => "newest",
                MatchOrder::Oldest => "oldest",
            }
            .to_owned(),
        ),
        ("--guard", ms(settings.guard_ms)),
        ("--confirm", confirm_name(settings.confirm).to_owned()),
        ("--ack-timeout", ms(settings.ack_timeout_ms)),
        ("--read-timeout", ms(settings.read_timeout_ms)),
        (
            "--ack-check-from-events",
            bound((*ack_check_from_events != usize::MAX).then(|| ack_check_from_events.to_string())),
        ),
        (
            "--ring-from-events",
            bound((*ring_from_events != usize::MAX).then(|| ring_from_events.to_string())),
        ),
        ("--max-attempts", settings.attempts_max.to_string()),
        ("--dispatch-timeout", ms(settings.dispatch_timeout_ms)),
        ("--max-connections", connections_max.to_string()),
        (
            "--max-connections-per-address",
            bound(
                (settings.connections_per_address_max != u32::MAX)
                    .then(|| settings.connections_per_address_max.to_string()),
            ),
        ),
        (
            "--max-polls-per-key",
            bound((settings.polls_per_key_max != usize::MAX).then(|| settings.polls_per_key_max.to_string())),
        ),
        (
            "--max-polls-per-deployment",
            bound(
                (settings.polls_per_deployment_max != usize::MAX)
                    .then(|| settings.polls_per_deployment_max.to_string()),
            ),
        ),
        ("--max-buffered", settings.buffered_bytes_max.to_string()),
        ("--max-keys", settings.keys_max.to_string()),
        (
            "--token-mode",
            match tokens.mode {
                TokenMode::Off => "off",
                TokenMode::Log => "log",
                TokenMode::Enforce => "enforce",
            }
            .to_owned(),
        ),
        (
            "--token-secret-file",
            // Where they are, never what they are.
            match &tokens.source {
                Some(SecretSource::File(path)) => path.display().to_string(),
                Some(SecretSource::Variable(name)) => format!("from {name}"),
                None => "none".to_owned(),
            },
        ),
        ("--max-tokens", settings.tokens_max.to_string()),
        ("--max-body", settings.body_bytes_max.to_string()),
        ("--max-head", settings.head_bytes_max.to_string()),
        ("--max-pipelined", settings.pipeline_bytes_max.to_string()),
        ("--request-timeout", ms(settings.request_timeout_ms)),
        ("--idle-timeout", ms(settings.idle_timeout_ms)),
        ("--preconnect-timeout", ms(settings.preconnect_timeout_ms)),
        ("--write-timeout", ms(settings.write_timeout_ms)),
        ("--shutdown-time", ms(settings.shutdown_time_ms)),
        ("--tcp-user-timeout", ms(u64::from(tcp.user_timeout_ms))),
        ("--tcp-keepalive-idle", ms(u64::from(tcp.keepalive_idle_s) * 1_000)),
        ("--tcp-keepalive-interval", ms(u64::from(tcp.keepalive_interval_s) * 1_000)),
        ("--tcp-keepalive-count", tcp.keepalive_count.to_string()),
        ("--metrics-deployments", watching.metrics_deployments.to_string()),
        ("--recent-dispatches", watching.recent_dispatches.to_string()),
        ("--sampled-dispatches", watching.sampled_dispatches.to_string()),
        ("--otlp-endpoint", traces.endpoint.clone().unwrap_or_else(|| "none: no traces".to_owned())),
        ("--otlp-timeout", humantime::format_duration(traces.timeout).to_string()),
        ("--traced-dispatches", traces.dispatches_per_second.to_string()),
        ("--max-queued-spans", traces.queued_max.to_string()),
        (
            "--log-format",
            match log.format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }
            .to_owned(),
        ),
        ("--log-level", log.filter.clone()),
    ]
}
