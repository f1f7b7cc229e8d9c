use std::collections::BTreeMap;

use fleet_contract::{
    model::{Files, Model},
    time::Micros,
};
use proptest::prelude::*;

use super::{drive::Motion, *};
use crate::{index::DeviceIndex, signal::Symbols};

fn track() -> Track {
    let files = Files::new();
    let model = Model { description: String::new(), signals: BTreeMap::new(), streams: BTreeMap::new() };
    let mut compiler =
        Compiler { model: &model, names: Vec::new(), files: &files, symbols: Symbols::default(), seed: 7, track: None };
    Track::new(&mut compiler).unwrap()
}

fn at(track: &Track, device: u32, micros: u64) -> Vehicle {
    let start = Micros(1_700_000_000_000_000);
    track.vehicle(&Moment { device: DeviceIndex::new(device), start, now: Micros(start.0 + micros) })
}

/// Metres east and north from one to the other.
fn way(track: &Track, from: &Vehicle, to: &Vehicle) -> (f64, f64) {
    ((to.longitude - from.longitude) * track.degree_east, (to.latitude - from.latitude) * DEGREE)
}

#[test]
fn the_road_is_closed_and_smooth() {
    let road = Road::city();
    let end = road.at(road.length());
    assert!(end.east.abs() < 1e-6 && end.north.abs() < 1e-6, "{end:?}");
    for pair in road.pieces().windows(2) {
        assert!(pair[0].length > 0.0, "an arc is too wide for its straights: {pair:?}");
        let (before, after) = (road.at(pair[1].begin - 1e-6), road.at(pair[1].begin + 1e-6));
        assert!((before.east - after.east).abs() < 1e-5 && (before.north - after.north).abs() < 1e-5);
        assert!(libm::sin(before.heading - after.heading).abs() < 1e-5);
    }
    assert!((4_000.0..8_000.0).contains(&road.length()), "{}", road.length());
}

fn motions(drive: &Drive) -> Vec<Motion> {
    (0..(drive.seconds() / 0.05) as u32).map(|tick| drive.at(f64::from(tick) * 0.05)).collect()
}

/// How often it begins to be true.
fn begins(drive: &Drive, is_true: fn(&Motion) -> bool) -> usize {
    motions(drive).windows(2).filter(|pair| !is_true(&pair[0]) && is_true(&pair[1])).count()
}

#[test]
fn curves_slow_it_down_and_it_comes_round() {
    let track = track();
    for drive in &track.drives {
        let motions = motions(drive);
        assert!(motions.iter().any(|motion| motion.speed > 13.0));
        for motion in &motions {
            let curvature = track.road.at(motion.distance).curvature.abs();
            assert!(motion.speed * motion.speed * curvature < 2.0 + 1e-6, "too fast in a curve: {motion:?}");
        }
        assert!((drive.at(drive.seconds()).distance - track.road.length()).abs() < 1e-6);
        // 0.1 to 0.3 kWh a kilometre.
        let consumption = drive.energy() / 3.6e6 / (track.road.length() / 1e3);
        assert!((0.1..0.3).contains(&consumption), "{consumption}");
    }
}

#[test]
fn every_incident_happens() {
    let drives = track().drives;
    let brakes = |drive: &Drive| begins(drive, |motion| motion.acceleration < -HARD_BRAKE);
    assert_eq!(drives.iter().map(brakes).collect::<Vec<_>>(), [0, 1, 1, 1]);
    let waits = |drive: &Drive| begins(drive, |motion| motion.speed == 0.0);
    assert_eq!(drives.iter().map(waits).collect::<Vec<_>>(), [3, 2, 2, 4]);
}

#[test]
fn the_battery_drains_and_is_charged_in_the_round() {
    let track = track();
    let minute = 60_000_000;
    let minutes = (track.round() * 2.0 / 60.0) as u64;
    let mut charged = 0;
    for now in 0..minutes {
        let (before, after) = (at(&track, 3, now * minute), at(&track, 3, (now + 1) * minute));
        assert!((20.0..=95.1).contains(&after.state_of_charge), "{}", after.state_of_charge);
        match (before.mode, after.mode) {
            (Mode::Charging, Mode::Charging) => {
                assert!(after.state_of_charge > before.state_of_charge);
                charged += 1;
            }
            (Mode::Driving | Mode::Stopped, Mode::Driving | Mode::Stopped) => {
                assert!(after.state_of_charge < before.state_of_charge + 0.08, "recuperation gives less");
            }
            _ => {}
        }
    }
    assert!(charged > 10, "{charged}");
}

proptest! {
    #[test]
    fn position_speed_heading_and_acceleration_fit_each_other(
        device in 0..1_000_000u32,
        seconds in 0.0..1e7f64,
    ) {
        let track = track();
        let now = (seconds * 1e6) as u64;
        let h = 10_000;
        let [before, here, after] = [now, now + h, now + 2 * h].map(|micros| at(&track, device, micros));
        let dt = 2.0 * h as f64 / 1e6;

        let (east, north) = way(&track, &before, &after);
        let moved = libm::hypot(east, north);
        prop_assert!((moved / dt - here.speed).abs() < 0.1, "{moved} m in {dt} s at {} m/s", here.speed);
        prop_assert!((after.odometer - before.odometer - moved).abs() < 2e-3);
        prop_assert!(after.odometer >= here.odometer && here.odometer >= before.odometer);
        let gained = (after.speed - before.speed) / dt;
        let [low, high] = [before, here, after].iter().fold([f64::MAX, f64::MIN], |[low, high], vehicle| {
            [low.min(vehicle.acceleration), high.max(vehicle.acceleration)]
        });
        prop_assert!(gained > low - 0.01 && gained < high + 0.01, "{gained} m/s² is not from {low} to {high}");
        if moved > 0.05 {
            let course = libm::atan2(east, north).to_degrees().rem_euclid(360.0);
            let off = (course - here.heading + 180.0).rem_euclid(360.0) - 180.0;
            prop_assert!(off.abs() < 1.0, "moves towards {course}, points towards {}", here.heading);
        }
        let turned = (after.heading - before.heading + 180.0).rem_euclid(360.0) - 180.0;
        let rates = [before.yaw_rate, here.yaw_rate, after.yaw_rate];
        let low = rates.iter().copied().fold(f64::MAX, f64::min);
        let high = rates.iter().copied().fold(f64::MIN, f64::max);
        prop_assert!(turned / dt > low - 0.5 && turned / dt < high + 0.5);
        prop_assert!((before.state_of_charge - after.state_of_charge).abs() < 0.01);
        prop_assert!(here.speed <= 13.9 + 1e-9 && here.speed >= 0.0);
    }
}
