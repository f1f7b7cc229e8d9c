//! A vehicle on a closed road, lap after lap, with a stop at the charger every so many laps.
//!
//! All laps take the same time: a quicker one waits longer at the depot. So which lap a vehicle is in, and where in it, follows
//! from the time alone, and each lap may still be one of several drives, drawn by its number.
//! Vehicles are spread over the round and each drives at its own pace.

mod drive;
mod road;

use std::sync::Arc;

use fleet_contract::model::signal::{self as document, RouteValue};

use self::{drive::Drive, road::Road};
use super::{Compiler, Generate, Moment, Reader, Symbol, Value};
use crate::random::Source;

/// Laps from charge to charge.
const LAPS: u64 = 20;
/// Different drives of a lap.
const DRIVES: u64 = 4;
/// Least time at the depot in seconds.
const REST: f64 = 20.0;
/// Usable energy in joules: 60 kWh.
const CAPACITY: f64 = 60.0 * 3.6e6;
/// Power of the charger in watts.
const CHARGER: f64 = 90e3;
/// Deceleration from which on braking counts as hard, in m/s².
const HARD_BRAKE: f64 = 4.0;
/// The slowest driver's pace; the quickest one's is 1.
const SLOWEST: f64 = 0.92;
/// Degrees north and east of the depot.
const DEPOT: (f64, f64) = (52.520_008, 13.404_954);
/// Metres of a degree of latitude.
const DEGREE: f64 = 111_320.0;

#[derive(Debug)]
pub(super) struct Route {
    track: Arc<Track>,
    value: RouteValue,
}

/// What all vehicles of a model share.
#[derive(Debug)]
pub(super) struct Track {
    source: Source,
    road: Road,
    drives: Vec<Drive>,
    /// Seconds of a lap, with the rest at the depot.
    lap: f64,
    /// Joules of a lap.
    energy: f64,
    modes: [Symbol; 3],
    /// Metres of a degree of longitude.
    degree_east: f64,
}

/// A vehicle at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vehicle {
    latitude: f64,
    longitude: f64,
    /// Degrees clockwise from north.
    heading: f64,
    /// m/s
    speed: f64,
    /// m/s²
    acceleration: f64,
    /// Degrees a second.
    yaw_rate: f64,
    /// Metres.
    odometer: f64,
    /// Per cent.
    state_of_charge: f64,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Driving,
    Stopped,
    Charging,
}

impl Generate for Route {
    type Document = document::Route;

    fn compile(document: &Self::Document, _: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let track = match &compiler.track {
            Some(track) => Arc::clone(track),
            None => Arc::new(Track::new(compiler)?),
        };
        compiler.track = Some(Arc::clone(&track));
        Ok(Self { track, value: document.value })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let vehicle = *reader.memo.vehicle.get_or_insert_with(|| self.track.vehicle(&moment));
        match self.value {
            RouteValue::Latitude => Value::Number(vehicle.latitude),
            RouteValue::Longitude => Value::Number(vehicle.longitude),
            RouteValue::Heading => Value::Number(vehicle.heading),
            RouteValue::Speed => Value::Number(vehicle.speed),
            RouteValue::Acceleration => Value::Number(vehicle.acceleration),
            RouteValue::YawRate => Value::Number(vehicle.yaw_rate),
            RouteValue::Odometer => Value::Number(vehicle.odometer),
            RouteValue::StateOfCharge => Value::Number(vehicle.state_of_charge),
            RouteValue::IsCharging => Value::Bool(vehicle.mode == Mode::Charging),
            RouteValue::HardBrake => Value::Bool(vehicle.acceleration < -HARD_BRAKE),
            RouteValue::Mode => Value::Text(self.track.modes[vehicle.mode as usize]),
        }
    }

    fn integral(&self, _: &mut Reader<'_>) -> Option<f64> {
        None
    }
}

/// Where in its round a vehicle is.
struct Position {
    /// Laps since the vehicle was built, the current one not counted.
    laps: u64,
    /// Laps since it was charged.
    since_charge: u64,
    /// Seconds into the lap, or into charging.
    seconds: f64,
}

impl Track {
    fn new(compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let road = Road::city();
        let drives: Vec<Drive> = (0..DRIVES).map(|number| Drive::new(&road, number)).collect();
        let lap = drives.iter().map(Drive::seconds).fold(0.0, f64::max) + REST;
        let energy = drives.iter().map(Drive::energy).sum::<f64>() / DRIVES as f64;
        let mut symbol = |text| compiler.symbols.intern(text);
        let modes = [symbol("driving")?, symbol("stopped")?, symbol("charging")?];
        let degree_east = DEGREE * libm::cos(DEPOT.0.to_radians());
        Ok(Self { source: Source::new(compiler.seed, "route"), road, drives, lap, energy, modes, degree_east })
    }

    fn vehicle(&self, moment: &Moment) -> Vehicle {
        let own = self.source.of(moment.device);
        // Positions from 2⁶³ on are properties of the device, those below are numbers of laps.
        let property = |number: u64| own.at((1 << 63) | number).unit();
        let pace = SLOWEST + (1.0 - SLOWEST) * property(0);
        let round = self.round();
        let position = self.position(moment.elapsed() as f64 / 1e6 * pace + property(1) * round);
        let top = 80.0 + 15.0 * property(2);
        let built = 60e6 * property(3);
        let used = |joules: f64| top - 100.0 * joules / CAPACITY;
        let laps_energy = position.since_charge as f64 * self.energy;
        let length = self.road.length();

        if position.since_charge == LAPS {
            let charged = position.seconds * CHARGER;
            return self.standing(
                0.0,
                built + position.laps as f64 * length,
                used(laps_energy - charged),
                Mode::Charging,
            );
        }
        let drive = &self.drives[usize::try_from(own.at(position.laps).below(DRIVES)).unwrap_or_default()];
        let motion = drive.at(position.seconds);
        let energy = motion.energy * self.energy / drive.energy();
        let mode = if motion.speed > 0.0 { Mode::Driving } else { Mode::Stopped };
        let standing = self.standing(
            motion.distance,
            built + position.laps as f64 * length + motion.distance,
            used(laps_energy + energy),
            mode,
        );
        let curvature = self.road.at(motion.distance).curvature;
        Vehicle {
            speed: motion.speed * pace,
            acceleration: motion.acceleration * pace * pace,
            yaw_rate: (motion.speed * pace * curvature).to_degrees(),
            ..standing
        }
    }

    /// Seconds from charge to charge, charging included.
    fn round(&self) -> f64 {
        LAPS as f64 * self.lap + self.charging()
    }

    /// Seconds at the charger.
    fn charging(&self) -> f64 {
        LAPS as f64 * self.energy / CHARGER
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive counts")]
    fn position(&self, seconds: f64) -> Position {
        let rounds = (seconds / self.round()).floor();
        let into = (seconds - rounds * self.round()).max(0.0);
        let since_charge = ((into / self.lap) as u64).min(LAPS);
        let seconds = (into - since_charge as f64 * self.lap).clamp(0.0, self.lap.max(self.charging()));
        Position { laps: rounds as u64 * LAPS + since_charge, since_charge, seconds }
    }

    fn standing(&self, distance: f64, odometer: f64, state_of_charge: f64, mode: Mode) -> Vehicle {
        let spot = self.road.at(distance);
        Vehicle {
            latitude: DEPOT.0 + spot.north / DEGREE,
            longitude: DEPOT.1 + spot.east / self.degree_east,
            heading: spot.heading.to_degrees().rem_euclid(360.0),
            speed: 0.0,
            acceleration: 0.0,
            yaw_rate: 0.0,
            odometer,
            state_of_charge,
            mode,
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
mod tests;
