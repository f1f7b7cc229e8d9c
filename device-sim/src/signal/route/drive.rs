//! One drive around the road: how far, how fast and with what energy, as phases of constant acceleration.
//!
//! Curves limit the speed by the lateral acceleration that passengers bear, straights by the law. The fastest drive within
//! these limits is found in one pass forward (no stronger acceleration) and one backward (no stronger braking).

use super::road::Road;

/// Speed limit in m/s: 50 km/h.
const LIMIT: f64 = 13.9;
/// Lateral acceleration in curves, in m/s².
const LATERAL: f64 = 2.0;
/// Acceleration and usual braking, in m/s².
const ACCELERATION: f64 = 1.6;
const BRAKING: f64 = 2.0;
/// Braking for somebody who steps onto the road, in m/s², and down to which speed in m/s.
const EMERGENCY: f64 = 6.5;
const CRAWL: f64 = 2.0;

/// Mass in kg, rolling resistance in N, drag in N/(m/s)², power of computers and heating in W.
const MASS: f64 = 2_300.0;
const ROLLING: f64 = 240.0;
const DRAG: f64 = 0.45;
const AUXILIARY: f64 = 1_500.0;
/// Shares of the energy that reach the wheels, and that come back from them.
const TRACTION: f64 = 0.9;
const RECUPERATION: f64 = 0.65;

/// What interrupts a drive.
#[derive(Debug, Clone, Copy)]
struct Incident {
    /// Where, as a share of the lap. It must not be in a curve.
    at: f64,
    /// Down to which speed.
    speed: f64,
    /// How hard it brakes.
    braking: f64,
    /// How long it stands, in seconds.
    wait: f64,
}

const fn stop(at: f64, wait: f64) -> Incident {
    Incident { at, speed: 0.0, braking: BRAKING, wait }
}

const fn fright(at: f64) -> Incident {
    Incident { at, speed: CRAWL, braking: EMERGENCY, wait: 0.0 }
}

/// What happens on each of the drives: passengers, red lights, and now and then somebody on the road.
const INCIDENTS: [&[Incident]; 4] = [
    &[stop(0.09, 25.0), stop(0.36, 18.0), stop(0.62, 40.0)],
    &[stop(0.20, 30.0), fright(0.49), stop(0.78, 22.0)],
    &[fright(0.06), stop(0.36, 35.0), stop(0.70, 12.0)],
    &[stop(0.05, 15.0), stop(0.20, 12.0), stop(0.49, 45.0), fright(0.62), stop(0.95, 10.0)],
];

/// A drive of one lap, from standstill to standstill.
#[derive(Debug)]
pub(super) struct Drive {
    phases: Vec<Phase>,
    seconds: f64,
    /// Joules.
    energy: f64,
}

/// A time of constant acceleration.
#[derive(Debug, Clone, Copy)]
struct Phase {
    /// Seconds, metres, joules since the drive began.
    time: f64,
    distance: f64,
    energy: f64,
    /// m/s at its beginning.
    speed: f64,
    /// m/s²
    acceleration: f64,
}

/// Where a drive has got to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    pub(super) distance: f64,
    pub(super) speed: f64,
    pub(super) acceleration: f64,
    pub(super) energy: f64,
}

/// A part of the road with one limit.
#[derive(Debug, Clone, Copy)]
struct Section {
    length: f64,
    limit: f64,
    braking: f64,
    /// The speed at its end, and the time that follows there.
    end: f64,
    wait: f64,
}

impl Drive {
    /// The drive of that number; there are as many as incidents are written down for.
    pub(super) fn new(road: &Road, number: u64) -> Self {
        let incidents = INCIDENTS[usize::try_from(number).unwrap_or_default() % INCIDENTS.len()];
        let sections = sections(road, incidents);
        let speeds = speeds(&sections);
        let mut drive = Self { phases: Vec::new(), seconds: 0.0, energy: 0.0 };
        let mut distance = 0.0;
        for (section, ends) in sections.iter().zip(speeds.windows(2)) {
            drive.cross(section, distance, ends[0], ends[1]);
            distance += section.length;
        }
        // At rest from here on.
        drive.push(distance, 0.0, 0.0, 0.0);
        drive
    }

    /// Seconds until it is back.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Joules that it takes.
    pub(super) fn energy(&self) -> f64 {
        self.energy
    }

    /// So many seconds after its beginning; it stands still after its end.
    pub(super) fn at(&self, seconds: f64) -> Motion {
        let index = self.phases.partition_point(|phase| phase.time <= seconds).max(1) - 1;
        let phase = self.phases[index];
        let time = if index + 1 == self.phases.len() { 0.0 } else { seconds - phase.time };
        Motion {
            distance: phase.distance + (phase.speed + phase.acceleration * time / 2.0) * time,
            speed: (phase.speed + phase.acceleration * time).max(0.0),
            acceleration: phase.acceleration,
            energy: phase.energy + energy(phase.speed, phase.acceleration, time),
        }
    }

    /// Accelerates to the highest possible speed, keeps it, brakes to the speed at the end, waits there.
    fn cross(&mut self, section: &Section, begin: f64, from: f64, to: f64) {
        let Section { length, limit, braking, wait, .. } = *section;
        let reachable = ((2.0 * ACCELERATION * braking * length + braking * from * from + ACCELERATION * to * to)
            / (ACCELERATION + braking))
            .sqrt();
        let peak = reachable.min(limit).max(from).max(to);
        let speeding_up = (peak * peak - from * from) / (2.0 * ACCELERATION);
        let slowing_down = (peak * peak - to * to) / (2.0 * braking);
        let cruising = (length - speeding_up - slowing_down).max(0.0);
        self.push(begin, from, ACCELERATION, (peak - from) / ACCELERATION);
        self.push(begin + speeding_up, peak, 0.0, cruising / peak);
        self.push(begin + speeding_up + cruising, peak, -braking, (peak - to) / braking);
        self.push(begin + length, 0.0, 0.0, wait);
    }

    /// Adds a phase of some length; the last one of a drive has none.
    fn push(&mut self, distance: f64, speed: f64, acceleration: f64, seconds: f64) {
        let is_last = speed == 0.0 && acceleration == 0.0 && seconds == 0.0;
        if seconds > 1e-9 || is_last {
            self.phases.push(Phase { time: self.seconds, distance, energy: self.energy, speed, acceleration });
            self.seconds += seconds;
            self.energy += energy(speed, acceleration, seconds);
        }
    }
}

/// Joules from the battery for a time of constant acceleration.
fn energy(speed: f64, acceleration: f64, seconds: f64) -> f64 {
    let end = speed + acceleration * seconds;
    let distance = 0.5 * (speed + end) * seconds;
    // The integral of v³, which is a polynomial in the two speeds.
    let cubes = (speed.powi(3) + speed * speed * end + speed * end * end + end.powi(3)) / 4.0 * seconds;
    let wheels = (ROLLING + MASS * acceleration) * distance + DRAG * cubes;
    let traction = if wheels > 0.0 { wheels / TRACTION } else { wheels * RECUPERATION };
    traction + AUXILIARY * seconds
}

/// The road, cut where something happens.
fn sections(road: &Road, incidents: &[Incident]) -> Vec<Section> {
    let mut sections = Vec::new();
    for piece in road.pieces() {
        let limit = if piece.curvature == 0.0 { LIMIT } else { LIMIT.min((LATERAL / piece.curvature.abs()).sqrt()) };
        let whole = Section { length: piece.length, limit, braking: BRAKING, end: LIMIT, wait: 0.0 };
        let mut begin = piece.begin;
        for incident in incidents.iter().filter(|_| piece.curvature == 0.0) {
            let place = incident.at * road.length();
            if place > begin && place < piece.begin + piece.length {
                let Incident { speed, braking, wait, .. } = *incident;
                sections.push(Section { length: place - begin, braking, end: speed, wait, ..whole });
                begin = place;
            }
        }
        sections.push(Section { length: piece.begin + piece.length - begin, ..whole });
    }
    sections
}

/// The speeds at the ends of sections: the highest that limits, acceleration and braking allow.
fn speeds(sections: &[Section]) -> Vec<f64> {
    let limits = sections.windows(2).map(|pair| pair[0].limit.min(pair[1].limit).min(pair[0].end));
    let mut speeds: Vec<f64> = [0.0].into_iter().chain(limits).chain([0.0]).collect();
    for (index, section) in sections.iter().enumerate() {
        speeds[index + 1] = speeds[index + 1].min(reach(speeds[index], ACCELERATION, section.length));
    }
    for (index, section) in sections.iter().enumerate().rev() {
        speeds[index] = speeds[index].min(reach(speeds[index + 1], section.braking, section.length));
    }
    speeds
}

fn reach(speed: f64, acceleration: f64, length: f64) -> f64 {
    (speed * speed + 2.0 * acceleration * length).sqrt()
}
