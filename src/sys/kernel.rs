//! What the kernel is set to.

/// net.core.somaxconn, the cap on every listener's backlog; None where /proc is not mounted.
pub fn somaxconn() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}
