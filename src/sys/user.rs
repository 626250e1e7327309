//! Gives up privileges: the process's user, its groups, and the right to gain privileges.

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setgroups, setresgid, setresuid};
use std::fs;
use std::io;

/// A user and its only group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}

/// Why the process could not change its user: one line that names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    #[error(
        "--user: not permitted to become user {uid} and group {gid}: start as root (or with CAP_SETUID and CAP_SETGID), or as that user and without --user"
    )]
    Permission { uid: u32, gid: u32 },
    #[error("--user: cannot become user {uid} and group {gid}: {source}")]
    Other { uid: u32, gid: u32, source: io::Error },
    /// The kernel reported success, but the process could still become root.
    #[error("--user: the process could still become root: run it in a sandbox that permits setresuid(2)")]
    Regained,
}

/// The user and the group in `NAME[:GROUP]`, by name or by number. Finds names in /etc/passwd and /etc/group only: a
/// static binary has no other directory service.
///
/// # Errors
/// What is wrong with the text, and the remedy.
pub fn resolve(typed: &str) -> Result<Identity, String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    resolve_in(typed, &read("/etc/passwd"), &read("/etc/group"))
}

fn resolve_in(typed: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, group_name) = match typed.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (typed, None),
    };
    let entry = passwd.lines().map(fields).find(|entry| match user.parse::<u32>() {
        Ok(uid) => number(entry, 2) == Some(uid),
        Err(_) => entry.first() == Some(&user),
    });
    let uid = match (user.parse::<u32>(), &entry) {
        (Ok(uid), _) => uid,
        (Err(_), Some(entry)) => number(entry, 2)
            .ok_or("its line in /etc/passwd has no valid user number: give the number here")?,
        (Err(_), None) => return Err("no such user in /etc/passwd: give its number".to_owned()),
    };
    let gid = match group_name {
        Some(name) => match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let entry = group.lines().map(fields).find(|entry| entry.first() == Some(&name));
                let gid = entry.and_then(|entry| number(&entry, 2));
                gid.ok_or("no such group in /etc/group: give its number")?
            }
        },
        None => entry
            .and_then(|entry| number(&entry, 3))
            .ok_or("its group is not known: write USER:GROUP, by name or by number")?,
    };
    match uid {
        0 => Err("that is root: name an unprivileged user, such as nobody or 65534:65534".to_owned()),
        uid => Ok(Identity { uid, gid }),
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn number(entry: &[&str], field: usize) -> Option<u32> {
    entry.get(field)?.parse().ok()
}

/// Changes the user and the group of every thread to `identity`, for the rest of the process's life, and leaves all
/// other groups.
pub fn become_user(identity: &Identity) -> Result<(), DropError> {
    let Identity { uid, gid } = *identity;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if geteuid() == user
        && getegid() == group
        && getgroups().is_ok_and(|groups| groups.iter().all(|g| *g == group))
    {
        return Ok(());
    }
    // The kernel makes a process dumpable again when it changes its user (prctl(2)). A process that was not dumpable
    // holds secrets.
    let dumpable = prctl::get_dumpable();
    let dropped = setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .and_then(|()| if dumpable? { Ok(()) } else { prctl::set_dumpable(false) });
    dropped.map_err(|errno| match errno {
        nix::Error::EPERM => DropError::Permission { uid, gid },
        errno => DropError::Other { uid, gid, source: errno.into() },
    })?;
    // Only an attempt proves that the process cannot become root again.
    match setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)) {
        Ok(()) => Err(DropError::Regained),
        Err(_) => Ok(()),
    }
}

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// From now on no program that this process starts can gain privileges (prctl(2), PR_SET_NO_NEW_PRIVS). Call it before
/// the process has other threads: it does not cover them.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroker:x:990:991::/:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nbroker:x:991:\nnet:x:44:broker\n";

    #[test]
    fn a_user_is_given_by_name_or_number() {
        let found = |typed| resolve_in(typed, PASSWD, GROUP);
        assert_eq!(found("broker"), Ok(Identity { uid: 990, gid: 991 }));
        assert_eq!(found("broker:net"), Ok(Identity { uid: 990, gid: 44 }));
        assert_eq!(found("990"), Ok(Identity { uid: 990, gid: 991 }));
        assert_eq!(found("65534:65533"), Ok(Identity { uid: 65_534, gid: 65_533 }));
        for (typed, says) in [
            ("nobody-here", "/etc/passwd"),
            ("", "/etc/passwd"),
            ("broker:nets", "/etc/group"),
            ("12345", "USER:GROUP"),
            ("root", "that is root"),
            ("0:991", "that is root"),
        ] {
            let error = found(typed).unwrap_err();
            assert!(error.contains(says), "{typed:?}: {error}");
        }
    }
}
