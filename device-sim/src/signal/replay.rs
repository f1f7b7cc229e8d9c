//! Recorded values, played back.

use std::collections::BTreeMap;

use fleet_contract::{
    expression::Type,
    model::signal::{self as document, RecordFormat, TimeUnit},
};
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::{Compiler, Generate, Moment, Reader, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Replay {
    source: Source,
    records: Vec<Record>,
    /// Microseconds of the whole recording.
    length: u64,
    /// The integral over the whole recording.
    area: f64,
    speed: f64,
    once: bool,
    interpolate: bool,
    spread: f64,
}

#[derive(Debug)]
struct Record {
    /// Microseconds into the recording.
    at: u64,
    value: Value,
    /// The integral over the recording before it.
    area: f64,
}

impl Generate for Replay {
    type Document = document::Replay;

    fn compile(document: &Self::Document, source: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let text = match (&document.text, &document.file) {
            (Some(text), _) => text.as_str(),
            (None, Some(file)) => compiler.files.get(file).ok_or_else(|| format!("the file `{file}` is missing"))?,
            (None, None) => return Err("it has neither `file` nor `text`".into()),
        };
        let rows = match document.format {
            RecordFormat::Csv => csv_rows(text)?,
            RecordFormat::JsonLines => json_rows(text)?,
        };
        let mut records = Vec::with_capacity(rows.len());
        for (number, row) in rows.iter().enumerate() {
            let line = |message: String| format!("record {}: {message}", number + 1);
            let value = value(row, document, compiler).map_err(line)?;
            let at = instant(row, document, number as u64).map_err(line)?;
            records.push(Record { at, value, area: 0.0 });
        }
        let length = check(&mut records, document)?;
        let mut replay = Self {
            source,
            records,
            length,
            area: 0.0,
            speed: document.speed,
            once: document.once,
            interpolate: document.interpolate,
            spread: document.spread.fraction(),
        };
        replay.add_up();
        Ok(replay)
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let position = self.position(&moment, moment.elapsed());
        let into = if self.once { position.min(self.length) } else { position % self.length };
        let index = self.index(into);
        match self.slope(index) {
            Some(slope) => {
                let record = &self.records[index];
                Value::Number(record.value.number() + slope * (into - record.at) as f64)
            }
            None => self.records[index].value,
        }
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        let moment = reader.moment();
        let (from, to) = (self.position(&moment, 0), self.position(&moment, moment.elapsed()));
        Some((self.area_at(to) - self.area_at(from)) / self.speed)
    }
}

impl Replay {
    /// Microseconds into the recording, `elapsed` after the start, rounds included.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
    fn position(&self, moment: &Moment, elapsed: u64) -> u64 {
        let share = self.spread * self.source.of(moment.device).at(0).unit();
        (elapsed as f64 * self.speed + share * self.length as f64) as u64
    }

    fn index(&self, into: u64) -> usize {
        self.records.partition_point(|record| record.at <= into).max(1) - 1
    }

    /// Change per microsecond after a record, where lines are drawn. The last record of a loop leads back to the first.
    fn slope(&self, index: usize) -> Option<f64> {
        let record = &self.records[index];
        let (value, end) = match self.records.get(index + 1) {
            Some(next) => (next.value, next.at),
            None if self.once => return None,
            None => (self.records[0].value, self.length),
        };
        match (self.interpolate, record.value, value) {
            (true, Value::Number(from), Value::Number(to)) => Some((to - from) / (end - record.at).max(1) as f64),
            _ => None,
        }
    }

    /// The integral from a record to an instant before the next one.
    fn area_after(&self, index: usize, until: u64) -> f64 {
        let record = &self.records[index];
        let time = (until - record.at) as f64;
        (record.value.number() + self.slope(index).unwrap_or_default() * time / 2.0) * time / 1e6
    }

    fn add_up(&mut self) {
        for index in 0..self.records.len() {
            self.records[index].area = self.area;
            let end = self.records.get(index + 1).map_or(self.length, |next| next.at);
            self.area += self.area_after(index, end);
        }
    }

    fn area_at(&self, position: u64) -> f64 {
        let rounds = if self.once { 0 } else { position / self.length };
        let into = position - rounds * self.length;
        let index = self.index(into);
        rounds as f64 * self.area + self.records[index].area + self.area_after(index, into)
    }
}

type Row = Map<String, Json>;

fn csv_rows(text: &str) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let names: Vec<_> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    if let Some(twice) = names.iter().enumerate().find(|(number, name)| names[..*number].contains(name)) {
        return Err(format!("the column `{}` is there twice", twice.1));
    }
    let row = |row: Result<BTreeMap<String, String>, csv::Error>| {
        row.map(|row| row.into_iter().map(|(name, text)| (name, Json::String(text))).collect())
    };
    reader.deserialize().map(row).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn json_rows(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1)))
        .collect()
}

fn member<'a>(row: &'a Row, column: &str) -> Result<&'a Json, String> {
    row.get(column).ok_or_else(|| {
        let known: Vec<&str> = row.keys().map(String::as_str).collect();
        format!("no column `{column}`; there are `{}`", known.join("`, `"))
    })
}

fn value(row: &Row, document: &document::Replay, compiler: &mut Compiler<'_>) -> Result<Value, String> {
    let json = member(row, &document.column)?;
    let found = match (document.value_type, json) {
        (Type::Number, Json::Number(number)) => number.as_f64().map(Value::Number),
        (Type::Number, Json::String(text)) => {
            text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Number)
        }
        (Type::Bool, Json::Bool(truth)) => Some(Value::Bool(*truth)),
        (Type::Bool, Json::String(text)) => text.parse().ok().map(Value::Bool),
        (Type::Text, Json::String(text)) => Some(Value::Text(compiler.symbols.intern(text)?)),
        (Type::Text, other) => Some(Value::Text(compiler.symbols.intern(&other.to_string())?)),
        _ => None,
    };
    let wrong = || format!("`{}` should be a {}, not {json}", document.column, document.value_type);
    let found = found.ok_or_else(wrong)?;
    match (found, document.range) {
        (Value::Number(number), Some([low, high])) if !(low..=high).contains(&number) => {
            Err(format!("{number} is outside of the range [{low}, {high}]"))
        }
        _ => Ok(found),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be positive; saturates")]
fn instant(row: &Row, document: &document::Replay, number: u64) -> Result<u64, String> {
    let Some(column) = &document.time else { return Ok(number.saturating_mul(document.every.0)) };
    let json = member(row, column)?;
    if let Some(instant) = json.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        return u64::try_from(instant.as_microsecond()).map_err(|_| format!("`{column}` is before 1970: {json}"));
    }
    let unit = document.time_unit;
    let count = json.as_f64().or_else(|| json.as_str()?.parse().ok());
    let Some(micros) =
        count.map(|count| count * micros_per(unit)).filter(|micros| micros.is_finite() && *micros >= 0.0)
    else {
        return Err(format!("`{column}` is neither a number of {unit} nor an instant: {json}"));
    };
    if micros > YEAR_5000 {
        let finer = [TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds];
        let likely = finer.into_iter().find(|unit| count.is_some_and(|count| count * micros_per(*unit) <= YEAR_5000));
        let hint = likely.map(|unit| format!("; these look like {unit}: set `timeUnit`")).unwrap_or_default();
        return Err(format!("`{column}` counted in {unit} is beyond the year 5000: {json}{hint}"));
    }
    Ok(micros as u64)
}

/// 95,617,584,000 seconds after 1970, in microseconds; a recording of a wall clock in a finer unit is far beyond.
const YEAR_5000: f64 = 95_617_584_000e6;

const fn micros_per(unit: TimeUnit) -> f64 {
    match unit {
        TimeUnit::Seconds => 1e6,
        TimeUnit::Milliseconds => 1e3,
        TimeUnit::Microseconds => 1.0,
        TimeUnit::Nanoseconds => 1e-3,
    }
}

/// Makes times count from the first record; returns the length of the recording, of which the last record has as much
/// as the one before it.
fn check(records: &mut [Record], document: &document::Replay) -> Result<u64, String> {
    let first = records.first().ok_or("there are no records")?.at;
    for record in &mut *records {
        record.at = record.at.checked_sub(first).ok_or("times must ascend")?;
    }
    if let Some(number) = records.windows(2).position(|pair| pair[0].at >= pair[1].at) {
        return Err(format!("record {}: times must ascend", number + 2));
    }
    Ok(match records {
        [.., before, last] => last.at + (last.at - before.at),
        _ => document.every.0.max(1),
    })
}
