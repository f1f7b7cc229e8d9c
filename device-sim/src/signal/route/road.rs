//! A closed road: straights, joined by arcs that they touch, so that the heading never jumps.

/// Corners of the road in metres east and north of the depot, and the radius of the arc there.
/// It begins and ends at the depot, half-way along the first straight.
const CITY: [(f64, f64, f64); 10] = [
    (620.0, 0.0, 14.0),
    (620.0, 410.0, 12.0),
    (1_130.0, 410.0, 18.0),
    (1_130.0, 930.0, 45.0),
    (760.0, 1_290.0, 60.0),
    (90.0, 1_290.0, 12.0),
    (90.0, 820.0, 14.0),
    (-340.0, 820.0, 25.0),
    (-520.0, 310.0, 50.0),
    (-340.0, 0.0, 30.0),
];

/// A closed road.
#[derive(Debug)]
pub(super) struct Road {
    pieces: Vec<Piece>,
    length: f64,
}

/// A straight or an arc.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// Metres from the beginning of the road.
    pub(super) begin: f64,
    pub(super) length: f64,
    /// One over the radius; positive to the right, 0 for a straight.
    pub(super) curvature: f64,
    /// Where it begins, in metres from the depot.
    east: f64,
    north: f64,
    /// Radians clockwise from north where it begins.
    heading: f64,
}

/// A place on the road.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) east: f64,
    pub(super) north: f64,
    /// Radians clockwise from north.
    pub(super) heading: f64,
    /// One over the radius; positive to the right.
    pub(super) curvature: f64,
}

impl Road {
    /// The built-in road.
    pub(super) fn city() -> Self {
        let mut road = Self { pieces: Vec::new(), length: 0.0 };
        let mut from = (0.0, 0.0);
        for (number, &(east, north, radius)) in CITY.iter().enumerate() {
            let next = CITY.get(number + 1).map_or((0.0, 0.0), |&(east, north, _)| (east, north));
            let (before, after) = (heading(from, (east, north)), heading((east, north), next));
            let turn = (after - before + std::f64::consts::PI).rem_euclid(std::f64::consts::TAU) - std::f64::consts::PI;
            // The arc touches both straights so far before and after the corner.
            let cut = radius * libm::tan(turn.abs() / 2.0);
            let begin = (east - cut * libm::sin(before), north - cut * libm::cos(before));
            road.push(from, before, distance(from, begin), 0.0);
            road.push(begin, before, radius * turn.abs(), turn.signum() / radius);
            from = (east + cut * libm::sin(after), north + cut * libm::cos(after));
        }
        road.push(from, heading(from, (0.0, 0.0)), distance(from, (0.0, 0.0)), 0.0);
        road
    }

    fn push(&mut self, (east, north): (f64, f64), heading: f64, length: f64, curvature: f64) {
        self.pieces.push(Piece { begin: self.length, length, curvature, east, north, heading });
        self.length += length;
    }

    /// Metres of one lap.
    pub(super) fn length(&self) -> f64 {
        self.length
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The place so many metres from the beginning, at most the length.
    pub(super) fn at(&self, metres: f64) -> Spot {
        let index = self.pieces.partition_point(|piece| piece.begin <= metres).max(1) - 1;
        let Piece { begin, curvature, east, north, heading, .. } = self.pieces[index];
        let along = metres - begin;
        let turned = heading + along * curvature;
        let (ahead_east, ahead_north) = if curvature == 0.0 {
            (along * libm::sin(heading), along * libm::cos(heading))
        } else {
            // The integral of the direction along the arc.
            ((libm::cos(heading) - libm::cos(turned)) / curvature, (libm::sin(turned) - libm::sin(heading)) / curvature)
        };
        Spot { east: east + ahead_east, north: north + ahead_north, heading: turned, curvature }
    }
}

/// Radians clockwise from north.
fn heading(from: (f64, f64), to: (f64, f64)) -> f64 {
    libm::atan2(to.0 - from.0, to.1 - from.1)
}

fn distance(from: (f64, f64), to: (f64, f64)) -> f64 {
    libm::hypot(to.0 - from.0, to.1 - from.1)
}
