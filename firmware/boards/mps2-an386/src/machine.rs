//! Registers, memory and the way out of the emulator.

use core::ptr;

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_semihosting::syscall;
use embedded_hal::delay::DelayNs;
use embedded_io::{ErrorType, Read, ReadReady, Write};

/// UART 0 (CMSDK APB UART, Arm DDI 0479, section 4.3).
pub struct Uart(());

const UART: usize = 0x4000_4000;
const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CTRL: usize = 0x8;
const BAUDDIV: usize = 0x10;
const TX_FULL: u32 = 1;
const RX_FULL: u32 = 2;

impl Uart {
    /// Switches the UART on. Call it once: whoever has a second one gets bytes meant for the first.
    pub fn new() -> Self {
        write(UART + BAUDDIV, 16);
        write(UART + CTRL, 3);
        Self(())
    }
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl ErrorType for Uart {
    type Error = core::convert::Infallible;
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        for byte in bytes {
            while read(UART + STATE) & TX_FULL != 0 {}
            write(UART + DATA, u32::from(*byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        while read(UART + STATE) & TX_FULL != 0 {}
        Ok(())
    }
}

impl Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Self::Error> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        while read(UART + STATE) & RX_FULL == 0 {}
        *first = read(UART + DATA) as u8;
        Ok(1)
    }
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Self::Error> {
        Ok(read(UART + STATE) & RX_FULL != 0)
    }
}

/// Time from SysTick, 25 MHz.
pub struct Delay(());

impl Delay {
    /// Starts the timer.
    pub fn new(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(0x00ff_ffff);
        timer.clear_current();
        timer.enable_counter();
        Self(())
    }

    /// Another handle: the timer only runs on.
    pub const fn again(&self) -> Self {
        Self(())
    }

    /// Ticks until now, modulo 2²⁴; each is 40 instructions under `-icount shift=0`.
    pub fn ticks(&self) -> u32 {
        !SYST::get_current() & 0x00ff_ffff
    }
}

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        let (start, wanted) = (self.ticks(), (ns / 40).min(0x007f_ffff));
        while self.ticks().wrapping_sub(start) & 0x00ff_ffff < wanted {}
    }
}

/// Writes words to the host's standard error.
pub fn say(words: &str) {
    // SAFETY: WRITEC reads one byte at the address.
    words.bytes().for_each(|byte| unsafe {
        let _ = cortex_m_semihosting::syscall1!(WRITEC, &raw const byte);
    });
}

/// Writes a name, a number and the end of the line.
pub fn say_number(name: &str, number: usize) {
    let (mut digits, mut at, mut rest) = ([b'0'; 20], 19, number);
    while rest > 9 {
        digits[at] += (rest % 10) as u8;
        rest /= 10;
        at -= 1;
    }
    digits[at] += rest as u8;
    say(name);
    say(" ");
    say(core::str::from_utf8(&digits[at..]).unwrap_or("?"));
    say("\n");
}

/// Ends QEMU with this exit code.
pub fn leave(code: u32) -> ! {
    let block = [ADP_STOPPED_APPLICATION_EXIT, code as usize];
    loop {
        // SAFETY: SYS_EXIT_EXTENDED reads two words.
        unsafe { cortex_m_semihosting::syscall(SYS_EXIT_EXTENDED, &block) };
    }
}

const SYS_EXIT_EXTENDED: usize = 0x20;
const ADP_STOPPED_APPLICATION_EXIT: usize = 0x20026;

/// Memory that QEMU has filled before the program started, and that nothing writes to.
pub(crate) fn loaded(at: usize, length: usize) -> &'static [u8] {
    // SAFETY: both regions are memory of this machine, outside of everything in memory.x, and never written.
    unsafe { core::slice::from_raw_parts(at as *const u8, length) }
}

/// Fills the free stack with a pattern, for [`high_water`].
#[inline(never)]
pub fn paint_stack() {
    let (bottom, here) = free_stack();
    for at in (bottom..here).step_by(4) {
        // SAFETY: between the end of static memory and below this function's frame: nobody's.
        unsafe { ptr::write_volatile(at as *mut u32, PAINT) };
    }
}

/// Bytes of stack that were in use at any time since [`paint_stack`].
#[inline(never)]
pub fn high_water() -> usize {
    let (bottom, here) = free_stack();
    // SAFETY: as above, only read.
    let untouched =
        (bottom..here).step_by(4).take_while(|at| unsafe { ptr::read_volatile(*at as *const u32) } == PAINT);
    STACK_TOP - bottom - 4 * untouched.count()
}

/// What a wipe left since [`paint_stack`]: the bytes of the longest run of zeros in the free stack, and how many bytes below it
/// were in use. Those are the wiping's own calls; an image that had used more stack than was wiped would add to them.
#[inline(never)]
pub fn wiped() -> (usize, usize) {
    let (bottom, here) = free_stack();
    let (mut deepest, mut zeros, mut longest) = (None, 0, (0, bottom));
    for at in (bottom..here).step_by(4) {
        // SAFETY: as in `high_water`.
        let word = unsafe { ptr::read_volatile(at as *const u32) };
        if word != PAINT && deepest.is_none() {
            deepest = Some(at);
        }
        zeros = if word == 0 { zeros + 4 } else { 0 };
        if zeros > longest.0 {
            longest = (zeros, at + 4 - zeros);
        }
    }
    (longest.0, longest.1 - deepest.unwrap_or(longest.1))
}

const PAINT: u32 = 0x5eed_c0de;
const STACK_TOP: usize = 0x2000_0000 + 64 * 1024;

/// From the end of static memory to a little below the caller's frame.
fn free_stack() -> (usize, usize) {
    unsafe extern "C" {
        static __sheap: u8;
    }
    // Only the address is taken; the linker script of cortex-m-rt defines it.
    let bottom = ptr::addr_of!(__sheap) as usize;
    let marker = 0u32;
    let here = ptr::addr_of!(marker) as usize;
    (bottom.next_multiple_of(4), (here - 128) & !3)
}

fn read(register: usize) -> u32 {
    // SAFETY: only called with registers of the UART, which may be read at any time.
    unsafe { ptr::read_volatile(register as *const u32) }
}

fn write(register: usize, value: u32) {
    // SAFETY: only called with registers of the UART, which take any value.
    unsafe { ptr::write_volatile(register as *mut u32, value) }
}

/// Opens a file of the host.
pub(crate) fn open(name: &core::ffi::CStr, mode: usize) -> Option<usize> {
    // SAFETY: OPEN wants a zero-terminated name, a mode and the length of the name.
    let file = unsafe { syscall!(OPEN, name.as_ptr() as usize, mode, name.count_bytes()) };
    (file as isize != -1).then_some(file)
}

/// Reads until `bytes` are full.
pub(crate) fn read_file(file: usize, bytes: &mut [u8]) -> bool {
    // SAFETY: READ fills at most so many bytes at the address, and returns how many it did not.
    unsafe { syscall!(READ, file, bytes.as_mut_ptr() as usize, bytes.len()) == 0 }
}

/// Writes all bytes.
pub(crate) fn write_file(file: usize, bytes: &[u8]) -> bool {
    // SAFETY: WRITE reads so many bytes at the address, and returns how many it did not.
    unsafe { syscall!(WRITE, file, bytes.as_ptr() as usize, bytes.len()) == 0 }
}

/// Closes a file.
pub(crate) fn close(file: usize) -> bool {
    // SAFETY: CLOSE takes a file that OPEN gave.
    unsafe { syscall!(CLOSE, file) == 0 }
}
