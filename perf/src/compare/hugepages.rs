//! Huge pages for DPDK: what is missing is reserved, and given back.

use std::fs;

/// One pool of pages of 2 MiB, of the whole machine.
const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// What each DPDK process of a comparison is given, in MiB.
pub(crate) const PROCESS_MIB: u32 = 256;
/// How often more are asked for.
const ATTEMPTS: usize = 4;

/// Pages that were reserved for as long as this lives.
#[derive(Debug)]
pub(crate) struct Hugepages {
    added: u64,
}

impl Hugepages {
    /// Sees to it that so much memory is free in huge pages, for the DPDK processes of a comparison together.
    pub(crate) fn reserve(memory_mib: u32) -> Result<Self, String> {
        let wanted = u64::from(memory_mib) / 2;
        let mut pages = Self { added: 0 };
        // Others may take some meanwhile, and the kernel may find more at the second look.
        for _ in 0..ATTEMPTS {
            let missing = wanted.saturating_sub(read(FREE)?);
            if missing == 0 {
                return Ok(pages);
            }
            let before = read(RESERVED)?;
            write(before + missing)?;
            pages.added += read(RESERVED)?.saturating_sub(before);
        }
        match read(FREE)? {
            free if free >= wanted => Ok(pages),
            free => Err(format!(
                "{free} of {wanted} huge pages of 2 MiB are free, and the kernel finds no more; \
                 free memory, or reserve them after a restart with `sysctl vm.nr_hugepages={wanted}`"
            )),
        }
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
