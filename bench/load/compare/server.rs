//! The servers of a comparison: which there are, and how each of them is configured. All are on the server's core.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::Setup;
use crate::server::{READ_AT_ONCE, Server, Start};

/// Mebibytes of memory that Kamailio's processes share: more than a minute of calls needs. It takes what it uses.
const KAMAILIO_MIB: u64 = 4_096;

/// What to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends every datagram back.
    Echo,
    /// Receives and drops; `Late`: looks at its socket a millisecond after the kernel woke it.
    Drop {
        /// See above.
        is_late: bool,
    },
    /// The product.
    Sipkeep {
        /// `[registrar] digest`
        digest: &'static str,
        /// `[guard] mode`
        guard: &'static str,
        /// `[guard] kernel_filter`
        filter: &'static str,
        /// Users from 1000 on.
        users: u32,
        /// Floods are not read later than they come.
        reads_at_once: bool,
    },
    /// Debian's, one child, the fast allocator.
    Kamailio {
        /// With pike and htable.
        is_guarded: bool,
    },
}

impl Kind {
    /// Starts one in a folder of its own, on a port so far behind the first.
    ///
    /// # Errors
    /// It does not start, for people.
    pub fn start(self, setup: &Setup, folder: &Path, place: u16) -> Result<Server, String> {
        let port = setup.first.port().wrapping_add(place);
        let target = SocketAddr::from((*setup.first.ip(), port));
        let bare = |word: &str| {
            let words = [word, "--listen", &target.to_string()];
            Start {
                program: &setup.load,
                words: words.map(str::to_owned).to_vec(),
                folder,
                configuration: None,
                target,
                asked_by: Some(setup.trunk().into()),
                user_id: None,
                core: None,
                small: None,
                variables: &[],
            }
        };
        let unheard = |word| Start {
            asked_by: None,
            ..bare(word)
        };
        let start = match self {
            Self::Echo => bare("echo"),
            Self::Drop { is_late: false } => unheard("drop"),
            Self::Drop { is_late: true } => unheard("drop-late"),
            Self::Sipkeep { reads_at_once, .. } => {
                let text = self.sipkeep(setup, target);
                let asked_by = setup.trunk().into();
                Start {
                    variables: if reads_at_once { &[READ_AT_ONCE] } else { &[] },
                    ..Start::sipkeep(&setup.server, folder, target, asked_by, text)
                }
            }
            Self::Kamailio { is_guarded } => kamailio(is_guarded, setup, bare("")),
        };
        Server::start(Start {
            core: setup.cores.map(|cores| cores.1),
            small: setup.small,
            ..start
        })
    }

    /// Bans an address for hours, with what the server has for that; Kamailio bans whoever floods it by itself.
    ///
    /// # Errors
    /// It does not obey, for people.
    pub fn ban(self, server: &Server, address: Ipv4Addr) -> Result<(), String> {
        let Self::Sipkeep {
            guard: "enforce", ..
        } = self
        else {
            return Ok(());
        };
        let words = ["ban", &address.to_string(), "--for", "4h"];
        server.ask(&words).map(drop)
    }

    /// Configuration of the product.
    fn sipkeep(self, setup: &Setup, listen: SocketAddr) -> String {
        let Self::Sipkeep {
            digest,
            guard,
            filter,
            users,
            ..
        } = self
        else {
            return String::new();
        };
        // Two addresses send what thousands do elsewhere. A small machine, and who has the filter, has what is shipped.
        let [calls, rate] = match (setup.small, filter) {
            (None, "off") => ["[call]\ncalls_max = 20000\n", "known_rate =\n"],
            _ => [""; 2],
        };
        let mut text = format!(
            "[server]\nlisten = udp:{listen}\nstate = sipkeep.db\nlog = warn\n[registrar]\ndigest = {digest}\n\
             [guard]\nmode = {guard}\nkernel_filter = {filter}\n{rate}[http]\nlisten = {listen}\n\
             {calls}[trunk load]\naddresses = {}\n",
            setup.trunk()
        );
        for user in 1_000..1_000 + users {
            text.push_str(&format!("[user {user}]\npassword = {}\n", setup.password));
        }
        text
    }
}

fn kamailio<'a>(is_guarded: bool, setup: &'a Setup, start: Start<'a>) -> Start<'a> {
    let path = start.folder.join("kamailio.cfg");
    let guard = if is_guarded { "#!define GUARD\n" } else { "" };
    let text = include_str!("kamailio.cfg")
        .replace("LISTEN", &start.target.to_string())
        .replace("PASSWORD", &setup.password);
    let (path, folder) = (path.to_string_lossy(), start.folder.to_string_lossy());
    // On a small machine what does not fit is refused; with more it would be killed.
    let memory = setup.small.and_then(|small| small.memory_bytes);
    let shared = memory
        .map_or(KAMAILIO_MIB, |bytes| (bytes >> 20) / 2)
        .to_string();
    let words = [
        "-DD", "-E", "-x", "fm", "-X", "fm", "-m", &shared, "-M", "16", "-f", &path, "-Y", &folder,
        "-w", &folder,
    ];
    Start {
        program: setup.kamailio.as_deref().unwrap_or(Path::new("kamailio")),
        words: words.map(str::to_owned).to_vec(),
        configuration: Some(("kamailio.cfg", format!("#!KAMAILIO\n{guard}{text}"))),
        ..start
    }
}
