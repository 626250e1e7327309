//! Listens on Unix domain sockets: the file's permissions decide which users may connect.
//!
//! A socket gets its mode and its owner before it listens, so no client connects too early. It replaces a file on
//! which no process listens. A successor that takes over binds another name and renames it, so that it takes over
//! the path atomically. The process removes the file at the end, if the file is still its own.

use super::error::ListenError;
use super::side::Side;
use crate::sys::user::Identity;
use nix::unistd::{Gid, Uid, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The longest path that a listener can have. The kernel takes 108 bytes with the final 0 (unix(7)); the rest is for
/// the name to which the process first binds the socket.
pub const PATH_BYTES_MAX: usize = 90;

/// Which users may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixOptions {
    /// The file's permissions; a client needs the right to write.
    pub mode: u32,
    /// The file's owner; `None`: the process's own user.
    pub owner: Option<Identity>,
}

/// The file of a socket on which this process listens. The drop removes it, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: FileIdentity,
}

/// Device, inode and, if the file system knows it, the creation time, because file systems reuse inodes.
type FileIdentity = (u64, u64, Option<SystemTime>);

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| identity_of(&file) == self.identity) {
            // It fails in a directory that the process may no longer write to. The next start replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity_of(file: &fs::Metadata) -> FileIdentity {
    (file.dev(), file.ino(), file.created().ok())
}

/// Binds a non-blocking listener to `path`. It replaces a file on which no process listens. With `exclusive` it fails
/// if another process listens there.
pub fn bind(
    side: Side,
    path: &Path,
    backlog: u32,
    options: &UnixOptions,
    exclusive: bool,
) -> Result<(UnixListener, SocketFile), ListenError> {
    let refused = |advice: String| ListenError::Unix { side, path: path.to_owned(), advice };
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(refused("a file that is not a socket is in the way: choose another path".to_owned()));
        }
        Ok(_) if exclusive && UnixStream::connect(path).is_ok() => {
            return Err(refused(
                "another process listens there: stop it, choose another path, or join a running pilotlight with --takeover".to_owned(),
            ));
        }
        _ => {}
    }
    // The kernel remembers the name that the socket was bound to, and tools show it.
    let name = match exclusive {
        true => path.to_owned(),
        false => path.with_file_name(format!(".pl-{}-{}", std::process::id(), side.name())),
    };
    let bound = listen(&name, backlog, options).and_then(|listener| {
        let identity = identity_of(&fs::symlink_metadata(&name)?);
        if !exclusive {
            fs::rename(&name, path)?;
        }
        Ok((listener, SocketFile { path: path.to_owned(), identity }))
    });
    bound.map_err(|error| {
        if !exclusive {
            let _ = fs::remove_file(&name);
        }
        refused(match error.raw_os_error() {
            Some(libc::ENOENT) => "its directory does not exist: create it first".to_owned(),
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                format!("not permitted ({error}): choose a directory that this process may write to")
            }
            _ => format!("cannot listen: {error}"),
        })
    })
}

fn listen(path: &Path, backlog: u32, options: &UnixOptions) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Its mode does not matter yet: no client can connect before it listens.
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(owner) = &options.owner {
        chown(path, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    }
    fs::set_permissions(path, Permissions::from_mode(options.mode))?;
    socket.listen(backlog.min(i32::MAX as u32) as i32)?;
    Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pilotlight-local-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("made");
        folder
    }

    const OPTIONS: UnixOptions = UnixOptions { mode: 0o620, owner: None };

    #[test]
    fn a_socket_file_has_its_mode_and_is_removed_on_drop() {
        let folder = folder("mode");
        let path = folder.join("s");
        let (listener, file) = bind(Side::Dispatch, &path, 8, &OPTIONS, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o620);
        assert!(UnixStream::connect(&path).is_ok());
        let refused = bind(Side::Admin, &path, 8, &OPTIONS, true).unwrap_err().to_string();
        assert!(refused.starts_with("--admin-listen unix:") && refused.contains("--takeover"), "{refused}");
        drop(listener);
        assert!(path.exists());
        // No process listens any more: the file is stale.
        let (_listener, second) = bind(Side::Dispatch, &path, 8, &OPTIONS, true).unwrap();
        drop(file);
        assert!(path.exists(), "it belongs to the second listener now");
        drop(second);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_successor_takes_the_path() {
        let folder = folder("takeover");
        let path = folder.join("s");
        let (old, old_file) = bind(Side::Dispatch, &path, 8, &OPTIONS, true).unwrap();
        let (new, new_file) = bind(Side::Dispatch, &path, 8, &OPTIONS, false).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        assert!(old.accept().is_err(), "the name leads to the successor");
        assert!(new.accept().is_ok());
        drop(old_file);
        assert!(path.exists());
        drop(new_file);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn an_error_names_what_is_in_the_way() {
        let folder = folder("refused");
        let file = folder.join("f");
        fs::write(&file, "precious").unwrap();
        let line = bind(Side::Dispatch, &file, 8, &OPTIONS, true).unwrap_err().to_string();
        assert!(line.contains("not a socket"), "{line}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let line = bind(Side::Dispatch, &folder.join("no/s"), 8, &OPTIONS, true).unwrap_err().to_string();
        assert!(line.contains("create it first"), "{line}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
