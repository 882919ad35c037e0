//! Sockets that a service manager opened and hands over, by `sd_listen_fds(3)`: they outlive the program, so what
//! connects while none runs waits in their backlog for the next one.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use socket2::SockRef;

/// The clients' and the management's.
const SOCKETS_MAX: usize = 2;

/// What was handed over.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Where clients come in.
    pub proxy: Option<TcpListener>,
    /// Where agents and operators come in.
    pub management: Option<TcpListener>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// What would they be for?
    #[error("LISTEN_FDS: '{0}' sockets are too many; give one for clients, and one for management at most")]
    TooMany(usize),
    /// Nobody can connect to it.
    #[error(
        "LISTEN_FDS: socket {number} is of no use ({error}); give TCP sockets that listen, such as ListenStream=8080 of a \
         systemd socket"
    )]
    Unusable {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        error: io::Error,
    },
}

/// Takes them, once: a second call finds none. Children do not inherit them further.
///
/// # Errors
/// If there are too many of them, or one cannot be accepted from.
pub fn take() -> Result<Inherited, InheritedError> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    // Those of another process of the same environment are not ours.
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Ok(Inherited::default());
    }
    let (count, names) = (variable("LISTEN_FDS").parse().unwrap_or(0), variable("LISTEN_FDNAMES"));
    if count > SOCKETS_MAX {
        return Err(InheritedError::TooMany(count));
    }
    let mut sockets = ListenFd::from_env();
    let mut socket = |at: usize| {
        let unusable = |error| InheritedError::Unusable { number: at + 1, error };
        let socket = sockets.take_tcp_listener(at).map_err(unusable)?;
        let Some(socket) = socket else { return Ok(None) };
        match SockRef::from(&socket).is_listener() {
            Ok(true) => Ok(Some(socket)),
            Ok(false) => Err(unusable(io::Error::other("it does not listen"))),
            Err(error) => Err(unusable(error)),
        }
    };
    let management = management_place(&names);
    Ok(Inherited { proxy: socket(1 - management)?, management: socket(management)? })
}

/// Which of the two is management's: by name (`FileDescriptorName=`), else the second.
fn management_place(names: &str) -> usize {
    let place = |wanted| names.split(':').position(|name| name == wanted).filter(|at| *at < SOCKETS_MAX);
    match (place("management"), place("proxy")) {
        (Some(at), _) => at,
        (None, Some(1)) => 0,
        (None, _) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_which_socket_is_whose() {
        for (names, management) in [
            ("", 1),
            ("paddock.socket:paddock.socket", 1),
            ("proxy", 1),
            ("management", 0),
            ("management:proxy", 0),
            ("paddock.socket:proxy", 0),
            ("proxy:management", 1),
            ("a:b:management", 1),
        ] {
            assert_eq!(management_place(names), management, "{names}");
        }
    }

    #[test]
    fn nothing_is_taken_of_an_environment_without_sockets() {
        let Inherited { proxy, management } = take().unwrap();
        assert!(proxy.is_none() && management.is_none());
    }
}
