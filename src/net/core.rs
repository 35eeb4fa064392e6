//! What the loop runs: the methods of [`Endpoint`] as a trait, so that tests can put a small core under the real sockets.

use std::net::{IpAddr, SocketAddr};

use crate::api::{Answer, Command};
use crate::config::Config;
use crate::endpoint::{Endpoint, Input, Output};
use crate::guard::{KernelEntry, KernelMark};
use crate::media::Forward;
use crate::source::{Component, MediaPair, Place};
use crate::store::Change;
use crate::time::{Instant, Now};

/// A core without I/O. Each method is [`Endpoint`]'s of the same name.
pub(super) trait Core {
    fn handle_input(&mut self, now: Now, input: Input<'_>);
    fn forward(
        &mut self,
        now: Instant,
        place: (MediaPair, Component),
        from: SocketAddr,
        packet: &[u8],
    ) -> Option<Forward>;
    fn command(&mut self, now: Now, command: Command) -> Answer;
    fn reload(&mut self, now: Now, config: Config);
    fn stop(&mut self, now: Now);
    fn is_idle(&self) -> bool;
    fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>>;
    fn clear_outputs_keeping(&mut self, keep: impl FnMut(Change));
    fn next_deadline(&self) -> Option<Instant>;
    fn accepts_connection(&mut self, now: Now, remote: SocketAddr) -> bool;
    fn kernel_mark(&self) -> KernelMark;
    fn kernel_list(&mut self, now: Now, family_max: usize) -> Vec<KernelEntry>;
    fn kernel_holds(&mut self, held: &[KernelEntry], begin: bool);
    fn lane_changes(&self) -> u64;
    fn lane_places(&self, now: Now, places_max: usize) -> Vec<Place>;
    fn discarded(&self) -> u64;
    fn place_changes(&self) -> u64;
    fn place_addresses(&self) -> Vec<IpAddr>;
}

impl Core for Endpoint {
    fn handle_input(&mut self, now: Now, input: Input<'_>) {
        Endpoint::handle_input(self, now, input);
    }

    fn forward(
        &mut self,
        now: Instant,
        place: (MediaPair, Component),
        from: SocketAddr,
        packet: &[u8],
    ) -> Option<Forward> {
        Endpoint::forward(self, now, place, from, packet)
    }

    fn command(&mut self, now: Now, command: Command) -> Answer {
        Endpoint::command(self, now, command)
    }

    fn reload(&mut self, now: Now, config: Config) {
        Endpoint::reload(self, now, config);
    }

    fn stop(&mut self, now: Now) {
        Endpoint::stop(self, now);
    }

    fn is_idle(&self) -> bool {
        Endpoint::is_idle(self)
    }

    fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        Endpoint::outputs(self)
    }

    fn clear_outputs_keeping(&mut self, keep: impl FnMut(Change)) {
        Endpoint::clear_outputs_keeping(self, keep);
    }

    fn next_deadline(&self) -> Option<Instant> {
        Endpoint::next_deadline(self)
    }

    fn accepts_connection(&mut self, now: Now, remote: SocketAddr) -> bool {
        Endpoint::accepts_connection(self, now, remote)
    }

    fn kernel_mark(&self) -> KernelMark {
        Endpoint::kernel_mark(self)
    }

    fn kernel_list(&mut self, now: Now, family_max: usize) -> Vec<KernelEntry> {
        Endpoint::kernel_list(self, now, family_max)
    }

    fn kernel_holds(&mut self, held: &[KernelEntry], begin: bool) {
        Endpoint::kernel_holds(self, held, begin);
    }

    fn lane_changes(&self) -> u64 {
        Endpoint::lane_changes(self)
    }

    fn lane_places(&self, now: Now, places_max: usize) -> Vec<Place> {
        Endpoint::lane_places(self, now, places_max)
    }

    fn discarded(&self) -> u64 {
        Endpoint::discarded(self)
    }

    fn place_changes(&self) -> u64 {
        Endpoint::place_changes(self)
    }

    fn place_addresses(&self) -> Vec<IpAddr> {
        Endpoint::place_addresses(self)
    }
}
