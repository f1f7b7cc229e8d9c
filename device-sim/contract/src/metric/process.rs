//! The metrics of a process, by the names that all of Prometheus' clients give them
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use super::{Kind, Metric};

metrics! {
    CPU_SECONDS = "process_cpu_seconds_total", Counter, [], "CPU time in user space and in the kernel, in seconds.";
    OPEN_FILES = "process_open_fds", Gauge, [], "Open files.";
    OPEN_FILES_MAX = "process_max_fds", Gauge, [], "How many files may be open.";
    VIRTUAL_MEMORY_BYTES = "process_virtual_memory_bytes", Gauge, [], "Virtual memory.";
    RESIDENT_MEMORY_BYTES = "process_resident_memory_bytes", Gauge, [], "Resident memory.";
    START_TIME_SECONDS = "process_start_time_seconds", Gauge, [], "When the process started, in seconds since 1970.";
}
