//! Huge pages for DPDK: what is missing is reserved, and given back.

use std::fs;

/// One pool of pages of 2 MiB, of the whole machine.
const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// What each DPDK process of a comparison is given, in MiB.
pub(crate) const PROCESS_MIB: u32 = 256;
/// Pages that were reserved for as long as this lives.
#[derive(Debug)]
pub(crate) struct Hugepages {
    added: u64,
}

impl Hugepages {
    /// Sees to it that so much memory is free in huge pages, for the DPDK processes of a comparison together.
    pub(crate) fn reserve(memory_mib: u32) -> Result<Self, String> {
        let wanted = u64::from(memory_mib) / 2;
        let missing = wanted.saturating_sub(read(FREE)?);
        let before = read(RESERVED)?;
        if missing > 0 {
            write(before + missing)?;
        }
        let added = read(RESERVED)?.saturating_sub(before);
        let pages = Self { added };
        let free = read(FREE)?;
        if free < wanted {
            return Err(format!(
                "{free} of {wanted} huge pages of 2 MiB are free, and the kernel finds no more; \
                 free memory, or reserve them after a restart with `sysctl vm.nr_hugepages={wanted}`"
            ));
        }
        Ok(pages)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        // Others may have changed the number meanwhile: only what was added is taken away again.
        if self.added > 0
            && let Ok(now) = read(RESERVED)
        {
            let _ = write(now.saturating_sub(self.added));
        }
    }
}

fn read(path: &str) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|error| format!("{path}: {error}"))
}

fn write(pages: u64) -> Result<(), String> {
    fs::write(RESERVED, pages.to_string()).map_err(|error| format!("{RESERVED}: {error}"))
}
