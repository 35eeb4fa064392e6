//! What the core learns of the world around: where names lead, and which of our addresses leads to whom.

use super::*;
use crate::net::names::Received;

impl<C: Core> Shell<C> {
    /// Tells the core whom to ask about names.
    pub(super) fn read_name_files(&mut self, now: Now) {
        let (servers, hosts) = self.io.names.read_files(now.mono);
        let (servers, hosts) = (&servers, &hosts);
        self.core
            .handle_input(now, Input::NameFiles { servers, hosts });
    }

    /// Tells the core which addresses this machine has.
    pub(super) fn read_interfaces(&mut self, now: Now) {
        let addresses = &crate::net::start::interface_addresses();
        self.core.handle_input(now, Input::Interfaces { addresses });
    }

    /// Asks for the local address towards every configured peer, before the first message.
    pub(in crate::net) fn read_all_routes(&mut self) {
        self.routes = Routes::new(&self.running.config);
        self.named_routes = None;
        let mut left = self.routes.len();
        while left > 0 {
            left = left.saturating_sub(self.read_routes());
        }
        self.read_named_routes(self.clock.now());
    }

    /// The next few; how many at most.
    pub(super) fn read_routes(&mut self) -> usize {
        let now = self.clock.now();
        for (remote, local) in self.routes.refresh() {
            self.core.handle_input(now, Input::Route { remote, local });
        }
        self.routes_at = now.mono.plus(ROUTES_EVERY);
        64
    }

    /// Name servers' answers, and what follows from them: other servers to ask, our address towards what was found. `begun`:
    /// when this turn began.
    pub(super) fn serve_names(&mut self, begun: Instant) {
        let has_news = self.named_routes != Some(self.core.place_changes());
        if !self.io.names.has_work() && self.io.names.next_deadline() > begun && !has_news {
            return;
        }
        let Self {
            core, io, clock, ..
        } = self;
        let now = clock.now();
        if let Some((servers, hosts)) = &io.names.changed_files(now.mono) {
            core.handle_input(now, Input::NameFiles { servers, hosts });
            flush(core, io, now);
        }
        for _ in 0..64 {
            let input = match io.names.read_next() {
                None => break,
                Some(Received::Ended(socket)) => Input::NameUnreachable { socket },
                Some(Received::Answer(socket, from, bytes)) => Input::NameAnswer {
                    socket,
                    from,
                    bytes,
                },
            };
            core.handle_input(now, input);
            flush(core, io, now);
        }
        if self.named_routes != Some(self.core.place_changes()) {
            self.read_named_routes(now);
        }
    }

    /// Our address towards each address of a name, where that is not known yet.
    fn read_named_routes(&mut self, now: Now) {
        self.named_routes = Some(self.core.place_changes());
        for (remote, local) in self.routes.add(self.core.place_addresses()) {
            self.core.handle_input(now, Input::Route { remote, local });
        }
        flush(&mut self.core, &mut self.io, now);
    }
}
