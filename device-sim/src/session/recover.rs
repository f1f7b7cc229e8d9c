//! Taking up what the last connection left, or giving it up.

use super::pool::{Link, Taken};
use super::{InFlight, Options, Pool, Recovery, Resend, Session, Terms};

impl Session {
    /// What is to be sent again next; none when all of it was, or when a broker of MQTT 5 takes no more before it has
    /// acknowledged some ([`Session::is_recovering`] tells which).
    ///
    /// To be called after [`Event::Connected`](super::Event::Connected) until it is through, over as many turns as the
    /// driver likes; meanwhile new messages of QoS 1 and 2 are [`Withheld::Recovering`](super::Withheld::Recovering). PUBRELs
    /// come first, in the order of their PUBRECs, then the PUBLISH packets in their original order, under
    /// their packet identifiers (MQTT-4.4.0-1, MQTT-4.6.0-1, MQTT-4.6.0-4).
    ///
    /// When the broker has lost a session that was to persist, the same messages come as new
    /// publications, without DUP. They keep their identifiers, which nothing else uses in the new
    /// session.
    pub fn next_resend(&mut self, pool: &mut Pool) -> Option<Resend> {
        let at = self.cursor;
        if at.is_none() {
            return None;
        }
        if self.recovery == Recovery::Publishes && self.terms().is_some_and(Terms::is_exhausted) {
            return None;
        }
        let entry = pool.get_mut(at);
        let next = entry.next();
        let resend = if self.recovery == Recovery::Releases {
            Resend::Release(entry.message.packet_id)
        } else {
            entry.message.dup = !std::mem::take(&mut entry.is_unsent);
            Resend::Publish(entry.message)
        };
        if matches!(resend, Resend::Publish(_))
            && let Some(terms) = self.terms_mut()
        {
            terms.take_quota();
        }
        self.advance(next);
        Some(resend)
    }

    /// Takes a message out that was given up; none when there is none left.
    ///
    /// Messages are given up when a clean session begins, when the broker has lost a persistent
    /// one (then those in [`Stage::Released`](super::Stage::Released), which cannot be sent again without risking a
    /// duplicate), and by [`Session::give_up`]. They stay in the pool until they are taken out.
    pub fn abandon(&mut self, pool: &mut Pool) -> Option<InFlight> {
        self.abandoned.pop(pool)
    }

    /// Gives everything in flight up, for [`Session::abandon`]: the device leaves for good, and
    /// nothing of it may stay in the pool.
    pub fn give_up(&mut self, pool: &mut Pool) {
        self.stop_recovery();
        self.give_up_releasing(pool);
        self.give_up_publishing(pool);
    }

    /// Moves everything that the session has in a pool to another one, where it goes on as if nothing had happened.
    pub fn move_messages(&mut self, from: &mut Pool, to: &mut Pool) {
        let cursor = self.cursor;
        for list in [&mut self.publishing, &mut self.releasing, &mut self.abandoned] {
            if let Some(moved) = list.move_to_pool(from, to, cursor) {
                self.cursor = moved;
            }
        }
    }

    /// The broker knows nothing of this client: a new session begins.
    pub(super) fn forget(&mut self, pool: &mut Pool, options: &Options) {
        if let Some(rare) = &mut self.rare {
            rare.received.clear();
        }
        self.give_up_releasing(pool);
        if options.clean {
            self.give_up_publishing(pool);
        }
        let mut at = self.publishing.head();
        while !at.is_none() {
            let entry = pool.get_mut(at);
            entry.is_unsent = true;
            at = entry.next();
        }
    }

    fn give_up_releasing(&mut self, pool: &mut Pool) {
        self.in_flight -= self.releasing.move_to(&mut self.abandoned, pool);
    }

    fn give_up_publishing(&mut self, pool: &mut Pool) {
        self.in_flight -= self.publishing.move_to(&mut self.abandoned, pool);
    }

    pub(super) fn start_recovery(&mut self) {
        self.recovery = Recovery::Releases;
        self.advance(self.releasing.head());
    }

    pub(super) fn stop_recovery(&mut self) {
        self.recovery = Recovery::Done;
        self.cursor = Link::NONE;
    }

    /// Moves the cursor to `next`, or to the beginning of what comes after its list.
    fn advance(&mut self, next: Link) {
        self.cursor = next;
        if self.cursor.is_none() && self.recovery == Recovery::Releases {
            self.recovery = Recovery::Publishes;
            self.cursor = self.publishing.head();
        }
        if self.cursor.is_none() {
            self.recovery = Recovery::Done;
        }
    }

    /// A message was taken out: the cursor does not stay where it stood.
    pub(super) fn skip(&mut self, taken: Taken) {
        if self.cursor == taken.at {
            self.advance(taken.next);
        }
    }
}
