//! Packets: sent, lost, sent again, received.

use super::{DELAYED_ACK_US, End, Event, Life, LinkId, Net, Packet, RTO_FIRST_US, RTO_MAX_US};

impl Net {
    pub(super) fn send_reset(&mut self, link: LinkId, from: End) {
        self.post(link, from, |packet| packet.reset = true);
    }

    pub(super) fn acknowledge(&mut self, link: LinkId, from: End, probe: bool) {
        self.post(link, from, |packet| packet.probe = probe);
    }

    /// Sends one packet. Packets of one direction keep their order.
    pub(super) fn post(&mut self, link: LinkId, from: End, fill: impl FnOnce(&mut Packet)) {
        let to = from.other();
        let socket = self.socket_mut(link, from);
        socket.ack_owed = false;
        let mut packet = Packet {
            link,
            to,
            seq: socket.sent,
            len: 0,
            fin: false,
            reset: false,
            probe: false,
            ack: socket.received,
            window_edge: socket.received + socket.window(),
        };
        fill(&mut packet);
        let wire = &self.links[link].wire;
        let (delay, jitter, loss) = (wire.delay, wire.jitter, wire.loss);
        if self.rng.chance(loss) {
            self.tally.count("fault: a packet is lost");
            return;
        }
        let at = self.now + delay + self.rng.below(jitter + 1);
        let at = at.max(self.links[link].last_arrival[to as usize]);
        self.links[link].last_arrival[to as usize] = at;
        self.at(at, Event::Arrives(packet));
    }

    /// Sends as much as the window allows.
    pub(super) fn pump(&mut self, link: LinkId, end: End) {
        if !self.links[link].established && end == End::Client {
            return;
        }
        loop {
            let segment = self.links[link].wire.segment as u64;
            let socket = self.socket_mut(link, end);
            if socket.dead || socket.life == Life::Gone {
                return;
            }
            let written = socket.out.len() as u64;
            let seq = socket.sent;
            let len = written.min(socket.window_edge).saturating_sub(seq).min(segment);
            let fin = socket.fin && seq + len == written && seq <= written;
            if len == 0 && !fin {
                break;
            }
            socket.sent = seq + len + u64::from(fin);
            self.post(link, end, |packet| {
                packet.seq = seq;
                packet.len = len;
                packet.fin = fin;
            });
        }
        self.arm_retransmit(link, end);
    }

    pub(super) fn arm_retransmit(&mut self, link: LinkId, end: End) {
        let socket = self.socket_mut(link, end);
        let all = socket.out.len() as u64 + u64::from(socket.fin);
        if socket.rto_armed || socket.acked >= all {
            return;
        }
        socket.rto_armed = true;
        let (token, rto) = (socket.rto_token, socket.rto);
        self.after(rto, Event::Retransmit { link, end, token });
    }

    pub(super) fn retransmit(&mut self, link: LinkId, end: End, token: u64) {
        let socket = self.socket_mut(link, end);
        if socket.rto_token != token {
            return;
        }
        socket.rto_armed = false;
        socket.rto = (socket.rto * 2).min(RTO_MAX_US);
        if socket.dead || socket.life == Life::Gone {
            return;
        }
        if socket.acked < socket.sent {
            socket.sent = socket.acked;
            self.pump(link, end);
        } else if socket.sent < socket.out.len() as u64 {
            // The window is closed: probe it.
            self.acknowledge(link, end, true);
            self.arm_retransmit(link, end);
        }
    }

    pub(super) fn arrives(&mut self, packet: Packet) {
        let Packet { link, to, .. } = packet;
        if self.links[link].cut[to as usize] {
            return;
        }
        let now = self.now;
        let socket = self.socket_mut(link, to);
        if socket.life == Life::Gone || socket.dead {
            if !packet.reset && !socket.time_wait {
                self.send_reset(link, to);
            }
            return;
        }
        if packet.reset {
            if !self.links[link].established && to == End::Client {
                self.links[link].refused = true;
            }
            return self.break_off(link, to);
        }
        if packet.ack > socket.acked {
            socket.acked = packet.ack;
            socket.sent = socket.sent.max(packet.ack);
            socket.rto = RTO_FIRST_US;
            socket.rto_token += 1;
            socket.rto_armed = false;
            socket.changed_at = now;
            self.changed_ends.push((link, to));
        }
        let socket = self.socket_mut(link, to);
        socket.window_edge = socket.window_edge.max(packet.window_edge);
        if (packet.len > 0 || packet.fin || packet.probe) && !self.receive_data(packet) {
            return;
        }
        self.pump(link, to);
        self.free_orphan(link, to);
    }

    /// Receives the data of a packet. False: the answer was a reset.
    pub(super) fn receive_data(&mut self, packet: Packet) -> bool {
        let Packet { link, to, .. } = packet;
        let now = self.now;
        let delayed_ack = self.links[link].wire.delayed_ack;
        let [client, broker] = &mut self.links[link].ends;
        let (socket, peer) = match to {
            End::Client => (client, broker),
            End::Broker => (broker, client),
        };
        let data_end = packet.seq + packet.len;
        let mut changed = false;
        if packet.seq <= socket.received && !socket.peer_fin {
            let fresh = data_end.saturating_sub(socket.received).min(socket.window());
            if fresh > 0 && socket.life == Life::Orphan {
                // No process can read it: Linux answers with a reset.
                socket.life = Life::Gone;
                self.send_reset(link, to);
                return false;
            }
            let from = socket.received as usize;
            socket.queue.extend(&peer.out[from..from + fresh as usize]);
            socket.received += fresh;
            changed = fresh > 0;
            if packet.fin && socket.received == data_end {
                socket.peer_fin = true;
                socket.received += 1;
                changed = true;
            }
        }
        if changed {
            socket.changed_at = now;
            self.changed_ends.push((link, to));
        }
        if !packet.fin && !packet.probe && self.rng.chance(delayed_ack) {
            self.tally.count("fault: an acknowledgement is delayed");
            self.socket_mut(link, to).ack_owed = true;
            self.after(DELAYED_ACK_US, Event::AckIsDue { link, end: to });
        } else {
            self.acknowledge(link, to, false);
        }
        true
    }

    /// Frees an orphan once both FINs are acknowledged.
    pub(super) fn free_orphan(&mut self, link: LinkId, end: End) {
        let socket = self.socket_mut(link, end);
        if socket.life == Life::Orphan && socket.peer_fin && socket.acked > socket.out.len() as u64 {
            socket.life = Life::Gone;
            socket.time_wait = true;
        }
    }
}
