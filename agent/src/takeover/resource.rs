//! One service address: its prepared messages and frames, and whether this node holds it.
//! What others do to the address is judged by what is there, not by the notification that told of it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::GroupId;
use agent_core::{Failure, Instant, ResourceRef};
use nix::errno::Errno;

use crate::io::interface;
use crate::links::grounds::Ground;
use crate::settings::{AddressSettings, Settings};
use crate::stats::Stats;

use super::announce;
use super::message::Message;
use super::netlink::{Present, RequestError, Requests};
use super::packet::PacketSocket;
use super::schedule::Schedule;
use super::{Happened, clock};

/// Whether the address is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Possession {
    /// Not added by this thread, and not seen.
    Absent,
    /// Not added by this thread, but it is there, and `rt` has been told.
    Foreign,
    /// Added by this thread.
    Held,
}

/// Everything for one interface, made when the interface is looked up.
struct Prepared {
    index: u32,
    add: Message,
    delete: Message,
    /// The Ethernet address that the frames bear.
    mac: Option<[u8; 6]>,
    /// Empty on an interface without Ethernet addresses.
    frames: Vec<Vec<u8>>,
}

impl Prepared {
    /// `None` when the interface is not there.
    fn new(settings: &AddressSettings) -> Option<Self> {
        let interface = interface::look_up(&settings.interface).ok().flatten()?;
        let (address, prefix, index) = (settings.address, settings.prefix, interface.index);
        Some(Self {
            index,
            add: Message::add(address, prefix, index),
            delete: Message::delete(address, prefix, index),
            mac: interface.mac,
            frames: interface.mac.map(|mac| announce::frames(address, mac)).unwrap_or_default(),
        })
    }
}

/// One address.
pub struct Resource {
    /// Its name in the core.
    pub at: ResourceRef,
    settings: AddressSettings,
    prepared: Option<Prepared>,
    possession: Possession,
    seen: bool,
    schedule: Option<Schedule>,
    /// How often the carrier had come back when this was last asked.
    returns: u32,
}

/// All addresses of the configuration, in its order.
pub fn all(settings: &Settings) -> Vec<Resource> {
    let mut all = Vec::new();
    for (group, place) in settings.groups.iter().zip(GroupId::all()) {
        for (address, index) in group.addresses.iter().zip(0u8..) {
            all.push(Resource::new(ResourceRef { group: place, index }, address));
        }
    }
    all
}

impl Resource {
    fn new(at: ResourceRef, settings: &AddressSettings) -> Self {
        Self {
            at,
            settings: settings.clone(),
            prepared: Prepared::new(settings),
            possession: Possession::Absent,
            seen: false,
            schedule: None,
            returns: 0,
        }
    }

    /// Whether it is this address.
    pub fn is(&self, address: IpAddr) -> bool {
        self.settings.address == address
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &AddressSettings {
        &self.settings
    }

    /// Whether this thread added it.
    pub fn held(&self) -> bool {
        self.possession == Possession::Held
    }

    /// Adds the address, if the `ground` allows it. One that is there already is taken over.
    ///
    /// # Errors
    /// The address is not there then, except perhaps after [`Failure::TimedOut`].
    pub fn add(&mut self, requests: &mut Requests, ground: Option<Ground>) -> Result<(), Failure> {
        match ground {
            Some(Ground::Absent) => return Err(Failure::NoInterface),
            Some(Ground::Unguarded) => return Err(Failure::Unguarded),
            Some(Ground::Ready(index)) if self.index() != Some(index) => {
                self.prepared = Prepared::new(&self.settings);
                if self.index() != Some(index) {
                    return Err(Failure::NoInterface);
                }
            }
            // Without a word of the follower, which only fails to speak of addresses that this node may not own.
            Some(Ground::Ready(_)) | None => {}
        }
        let mut result = self.try_add(requests);
        if result == Err(Failure::NoInterface) && ground.is_none() {
            // It may have come back with another index or another hardware address.
            self.prepared = Prepared::new(&self.settings);
            result = self.try_add(requests);
        }
        if result.is_ok() {
            self.possession = Possession::Held;
        }
        result
    }

    fn try_add(&mut self, requests: &mut Requests) -> Result<(), Failure> {
        let prepared = self.prepared.as_mut().ok_or(Failure::NoInterface)?;
        match requests.request(&mut prepared.add) {
            Ok(()) | Err(RequestError::Refused(Errno::EEXIST)) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    /// Deletes the address, also where somebody added it with another prefix length. One that is not there, or whose
    /// interface is gone, is deleted.
    ///
    /// # Errors
    /// The address may still be there; it is announced no more.
    pub fn delete(&mut self, requests: &mut Requests) -> Result<(), Failure> {
        self.schedule = None;
        if let Some(prepared) = &mut self.prepared {
            gone(requests.request(&mut prepared.delete))?;
            let mut others = Vec::new();
            let (address, index) = (self.settings.address, prepared.index);
            let ours = |present: &Present| present.address == address && present.index == index;
            // Should the kernel not list them, the next look finds what is left.
            let _ = requests.dump(|present| others.extend(Some(present).filter(ours)));
            for other in others {
                gone(requests.request(&mut Message::delete(other.address, other.prefix, other.index)))?;
            }
        }
        self.possession = Possession::Absent;
        Ok(())
    }

    /// Deletes an address that is held where it may not be any more: its interface has another name now.
    pub fn withdraw_from_elsewhere(&mut self, requests: &mut Requests, ground: Option<Ground>) {
        let is_elsewhere = match ground {
            Some(Ground::Ready(index)) => self.index() != Some(index),
            Some(Ground::Absent | Ground::Unguarded) => true,
            None => false,
        };
        if self.held()
            && is_elsewhere
            && let Some(prepared) = &mut self.prepared
        {
            // What is left in spite of it is behind the gate that stays where it is, and is seen by the next look.
            let _ = gone(requests.request(&mut prepared.delete));
        }
    }

    fn index(&self) -> Option<u32> {
        self.prepared.as_ref().map(|prepared| prepared.index)
    }

    /// Sends the frames. Returns when the first had left, `None` if none did.
    pub fn announce(&self, packets: &PacketSocket, stats: &Stats) -> Option<Instant> {
        let prepared = self.prepared.as_ref()?;
        let mut left = None;
        for frame in &prepared.frames {
            match packets.send(prepared.index, frame) {
                Ok(()) => left = left.or_else(|| Some(clock::now())),
                Err(_) => {
                    stats.announce_failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        left
    }

    /// Prepares anew if the interface bears another Ethernet address than before (a bond's changes when it fails over):
    /// announcing the old one would send the clients astray. For announcements that are not the first.
    pub fn renew(&mut self, mac: Option<[u8; 6]>) {
        if self.prepared.as_ref().is_some_and(|prepared| prepared.mac != mac)
            && let Some(fresh) = Prepared::new(&self.settings)
        {
            self.prepared = Some(fresh);
        }
    }

    /// Whether the carrier of its interface came back since this was asked before.
    pub fn carrier_is_back(&mut self, returns: u32) -> bool {
        std::mem::replace(&mut self.returns, returns) != returns
    }

    /// The dense announcements start over: the first has left at `now`.
    pub fn plan(&mut self, now: Instant) {
        self.schedule = Some(Schedule::start(now));
    }

    /// When the next announcement is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.schedule.map(|schedule| schedule.due())
    }

    /// Whether one is due; the next is planned then.
    pub fn due(&mut self, now: Instant, refresh: Duration) -> bool {
        self.schedule.as_mut().is_some_and(|schedule| schedule.take_due(now, refresh))
    }

    /// Before a look at what is there.
    pub fn expect_absent(&mut self) {
        self.seen = false;
    }

    /// This address is there.
    pub fn see(&mut self, present: Present) {
        let here = self.prepared.as_ref().is_some_and(|prepared| prepared.index == present.index);
        self.seen |= here && self.settings.address == present.address;
    }

    /// After the look: what `rt` must know, once.
    pub fn judge(&mut self) -> Option<Happened> {
        match (self.possession, self.seen) {
            (Possession::Held, true) | (Possession::Foreign, true) | (Possession::Absent, false) => None,
            (Possession::Held, false) => {
                self.possession = Possession::Absent;
                self.schedule = None;
                Some(Happened::Vanished)
            }
            (Possession::Absent, true) => {
                self.possession = Possession::Foreign;
                Some(Happened::Found)
            }
            (Possession::Foreign, false) => {
                self.possession = Possession::Absent;
                None
            }
        }
    }
}

/// What is not there is deleted.
fn gone(result: Result<(), RequestError>) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(RequestError::Refused(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => Ok(()),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: RequestError) -> Failure {
    match error {
        RequestError::Refused(Errno::ENODEV) => Failure::NoInterface,
        RequestError::Refused(Errno::EPERM | Errno::EACCES) => Failure::NotPermitted,
        RequestError::Refused(errno) => Failure::Refused(errno as i32),
        RequestError::TimedOut => Failure::TimedOut,
        RequestError::Malformed => Failure::Refused(Errno::EBADMSG as i32),
    }
}

#[cfg(test)]
mod tests {
    use agent_common::GroupId;
    use agent_core::{Failure, ResourceRef};
    use nix::errno::Errno;

    use super::{Happened, Possession, Present, RequestError, Resource, failure, gone};
    use crate::settings::AddressSettings;

    fn on_lo() -> Resource {
        let settings = AddressSettings {
            address: "192.0.2.7".parse().expect("an address"),
            prefix: 32,
            interface: "lo".to_owned(),
        };
        Resource::new(ResourceRef { group: GroupId::new(0).expect("in range"), index: 0 }, &settings)
    }

    fn look(resource: &mut Resource, address: Option<&str>) -> Option<Happened> {
        resource.expect_absent();
        if let Some(address) = address {
            let index = resource.prepared.as_ref().map_or(0, |prepared| prepared.index);
            resource.see(Present { index, address: address.parse().expect("an address"), prefix: 32 });
        }
        resource.judge()
    }

    #[test]
    fn what_others_do_is_told_once() {
        let mut resource = on_lo();
        assert_eq!(look(&mut resource, Some("192.0.2.8")), None, "another address is nothing");
        assert_eq!(look(&mut resource, Some("192.0.2.7")), Some(Happened::Found));
        assert_eq!(look(&mut resource, Some("192.0.2.7")), None);
        assert_eq!(look(&mut resource, None), None, "it was never ours");
        resource.possession = Possession::Held;
        assert_eq!(look(&mut resource, Some("192.0.2.7")), None);
        assert_eq!(look(&mut resource, None), Some(Happened::Vanished));
        assert_eq!(look(&mut resource, None), None);
    }

    #[test]
    fn the_address_on_another_interface_is_not_ours() {
        let mut resource = on_lo();
        resource.possession = Possession::Held;
        resource.expect_absent();
        resource.see(Present { index: 9999, address: "192.0.2.7".parse().expect("an address"), prefix: 32 });
        assert_eq!(resource.judge(), Some(Happened::Vanished));
    }

    #[test]
    fn another_hardware_address_is_announced_from_then_on() {
        let mut resource = on_lo();
        let old = Some([2, 0, 0, 0, 0, 1]);
        if let Some(prepared) = &mut resource.prepared {
            prepared.mac = old;
            prepared.frames = vec![vec![0; 42]];
        }
        let frames = |resource: &Resource| resource.prepared.as_ref().map(|prepared| prepared.frames.len());
        resource.renew(old);
        assert_eq!(frames(&resource), Some(1), "nothing has changed");
        // A loopback has none.
        resource.renew(None);
        assert_eq!(frames(&resource), Some(0));
    }

    #[test]
    fn failures_keep_what_matters() {
        assert_eq!(failure(RequestError::Refused(Errno::ENODEV)), Failure::NoInterface);
        assert_eq!(failure(RequestError::Refused(Errno::EPERM)), Failure::NotPermitted);
        assert_eq!(failure(RequestError::Refused(Errno::EINVAL)), Failure::Refused(22));
        assert_eq!(failure(RequestError::TimedOut), Failure::TimedOut);
        assert_eq!(gone(Err(RequestError::Refused(Errno::EADDRNOTAVAIL))), Ok(()));
        assert_eq!(gone(Err(RequestError::Refused(Errno::EPERM))), Err(Failure::NotPermitted));
    }
}
