//! Where a request of a service may be sent: home, or one of its peers.

/// One of a service's destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(u8);

impl DestinationId {
    /// The service in this cluster.
    pub const HOME: DestinationId = DestinationId(0);

    /// The peer of this index in the service's configuration; the last that can be told apart if there are more than 255.
    pub const fn peer(index: u8) -> DestinationId {
        DestinationId(index.saturating_add(1))
    }

    /// Its place in a list of all destinations of a service.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One of a service's peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u8);

impl PeerId {
    /// The first in the service's configuration.
    pub const FIRST: PeerId = PeerId(0);

    /// All that can be told apart, in the order of the service's configuration.
    pub fn all() -> impl Iterator<Item = PeerId> {
        (0..u8::MAX).map(PeerId)
    }

    /// The peer of this index in the service's configuration, at most 254.
    pub const fn new(index: u8) -> PeerId {
        PeerId(index)
    }

    /// Its index in the service's configuration.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<PeerId> for DestinationId {
    fn from(peer: PeerId) -> DestinationId {
        DestinationId::peer(peer.0)
    }
}

/// A destination of one of the services of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The index of the service in the configuration.
    pub service: usize,
    /// Which of its destinations.
    pub id: DestinationId,
}
