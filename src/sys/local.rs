//! Unix domain sockets to listen on: the file system says who may connect.
//!
//! A socket gets its mode and its owner before it listens: nobody connects to it too early. A file that
//! nobody listens on is replaced. A successor that takes over binds a name of its own and renames it, and
//! so takes the path between one connect and the next. The file is removed at the end, if it is still ours.

use super::listen::{ListenError, Side};
use super::user::Identity;
use nix::unistd::{Gid, Uid, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A path that the kernel takes, with room for the name that it is bound under first (unix(7): 108 bytes
/// with the final 0).
pub const PATH_BYTES_MAX: usize = 90;

/// Who may connect, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    /// The file's permissions; connecting takes the right to write.
    pub mode: u32,
    /// The file's owner, if not the process's own.
    pub owner: Option<Identity>,
}

/// The file of a socket that this process listens on. Removed when dropped, unless somebody else has
/// put his own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: FileIdentity,
}

/// Device, inode and, where the file system knows it, the time of birth: inodes are used again.
type FileIdentity = (u64, u64, Option<SystemTime>);

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| identity_of(&file) == self.identity) {
            // A directory that may not be written to any more keeps a stale file, which the next start replaces.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity_of(file: &fs::Metadata) -> FileIdentity {
    (file.dev(), file.ino(), file.created().ok())
}

/// Listens on `path`, without blocking. A file that nobody listens on any more is replaced; with
/// `exclusive` one that somebody listens on is refused.
pub fn bind(
    side: Side,
    path: &Path,
    backlog: u32,
    options: &LocalOptions,
    exclusive: bool,
) -> Result<(UnixListener, SocketFile), ListenError> {
    let refused = |advice: String| ListenError::Unix { side, path: path.to_owned(), advice };
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(refused("there is a file that is no socket: choose another path".to_owned()));
        }
        Ok(_) if exclusive && UnixStream::connect(path).is_ok() => {
            return Err(refused(
                "somebody listens there: stop what does, choose another path, or join a running pilotlight with --takeover".to_owned(),
            ));
        }
        _ => {}
    }
    // The kernel remembers the name that was bound, and tools show that.
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
            Some(libc::ENOENT) => "its directory is not there: make it first".to_owned(),
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                format!("not permitted ({error}): choose a directory that this process may write to")
            }
            _ => format!("cannot listen: {error}"),
        })
    })
}

fn listen(path: &Path, backlog: u32, options: &LocalOptions) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Nobody can connect before it listens, whatever its mode is until then.
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

    const OPTIONS: LocalOptions = LocalOptions { mode: 0o620, owner: None };

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_owner() {
        let folder = folder("mode");
        let path = folder.join("s");
        let (listener, file) = bind(Side::Dispatch, &path, 8, &OPTIONS, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o620);
        assert!(UnixStream::connect(&path).is_ok());
        let refused = bind(Side::Admin, &path, 8, &OPTIONS, true).unwrap_err().to_string();
        assert!(refused.starts_with("--admin-listen unix:") && refused.contains("--takeover"), "{refused}");
        drop(listener);
        assert!(path.exists());
        // Nobody listens any more: it is stale.
        let (_listener, second) = bind(Side::Dispatch, &path, 8, &OPTIONS, true).unwrap();
        drop(file);
        assert!(path.exists(), "it is another's by now");
        drop(second);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_successor_takes_the_name_over() {
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
    fn what_cannot_be_listened_on_is_named() {
        let folder = folder("refused");
        let file = folder.join("f");
        fs::write(&file, "precious").unwrap();
        let line = bind(Side::Dispatch, &file, 8, &OPTIONS, true).unwrap_err().to_string();
        assert!(line.contains("no socket"), "{line}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let line = bind(Side::Dispatch, &folder.join("no/s"), 8, &OPTIONS, true).unwrap_err().to_string();
        assert!(line.contains("make it first"), "{line}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
