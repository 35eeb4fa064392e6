//! Relayed media in the loop.

use super::*;

impl<C: Core> Shell<C> {
    /// Sockets in turn, so many packets in all; what is left waits until SIP has had its turn.
    pub(super) fn serve_media(&mut self) -> io::Result<()> {
        let Self {
            core,
            io,
            clock,
            receive_lane,
            ..
        } = self;
        let now = clock.mono();
        let Io {
            media, registry, ..
        } = io;
        media.serve(now, registry, receive_lane, |place, from, bytes| {
            core.forward(now, place, from, bytes)
        })
    }
}

/// Tells the core which ports could not be opened; `false`: none.
pub(super) fn tell_failed<C: Core>(core: &mut C, media: &mut MediaSockets, now: Now) -> bool {
    let mut is_any = false;
    while let Some((pair, error)) = media.next_failed() {
        is_any = true;
        let fields = vec![("error", error.to_string())];
        log::event(now, &event(::log::Level::Warn, "media_port", fields));
        let is_taken = error.kind() == ErrorKind::AddrInUse;
        core.handle_input(now, Input::MediaFailed { pair, is_taken });
    }
    is_any
}
