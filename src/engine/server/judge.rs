//! Who is let in: asked for each connection that was accepted, before there is one.

use super::server::Server;
use crate::engine::connection::place::Place;
use crate::engine::connection::turn::Turn;
use crate::engine::log::Line;
use crate::engine::stats::Refusal;
use crate::pool::bucket::Token;
use crate::port::{Address, Port};

/// What is set aside before a connection is taken out of the backlog, when those for which there is nothing stay in it.
pub(super) struct Reserved<'a, P: Port> {
    pub place: Option<Place<'a, P>>,
    pub token: Option<Token<'a>>,
}

impl<P: Port> Server<P> {
    /// Asks the user, if it wants to be asked. Who came while the server was stopped is let in, and closed, without.
    fn ask(&self, turn: &mut Turn<'_, P>, peer: &Address) -> Result<(), Refusal> {
        if !self.owner.wants.admit || self.owner.is_shut() {
            return Ok(());
        }
        let mut text = Line::default();
        // An address is far shorter than a line.
        let _ = std::fmt::write(&mut text, format_args!("{peer}"));
        let is_admitted = self.owner.handler.on_admit(text.text());
        turn.called();
        if is_admitted { Ok(()) } else { Err(Refusal::ByHost) }
    }

    /// Whether a peer is let in, and its place if it is. In this order: lists, rate, the user, limits.
    pub(super) fn judge<'a>(
        &'a self,
        turn: &mut Turn<'_, P>,
        peer: &Address,
        reserved: Reserved<'a, P>,
    ) -> Result<Place<'a, P>, Refusal> {
        let ip = peer.socket_address().map(|address| address.ip());
        if let Some(admission) = &self.gate.admission {
            if !admission.lists_admit(ip) {
                return Err(Refusal::ByList);
            }
            let token = match reserved.token {
                None => admission.token(|| turn.link.port.now_ns()).map_err(|_| Refusal::ByRate)?,
                reserved => reserved,
            };
            if let Some(token) = token {
                token.spend();
            }
        }
        self.ask(turn, peer)?;
        let take = || self.workers.connections.take_place(Some(&self.gate.permits));
        let place = reserved.place.or_else(take).ok_or(Refusal::AtLimit)?;
        if self.gate.per_ip.admits(ip) { Ok(place) } else { Err(Refusal::PerIp) }
    }
}
