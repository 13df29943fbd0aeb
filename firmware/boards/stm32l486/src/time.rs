//! Clocks (HSI 16 MHz for the core, HSI 48 MHz for the generator) and SysTick as a delay.

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use embedded_hal::delay::DelayNs;

use crate::pac;

pub(crate) fn start_clocks(rcc: &pac::RCC) {
    rcc.cr().modify(|_, w| w.hsion().set_bit());
    while rcc.cr().read().hsirdy().bit_is_clear() {}
    // SAFETY: 1 is HSI16 (RM0351, 6.4.3), which runs.
    rcc.cfgr().modify(|_, w| unsafe { w.sw().bits(1) });
    rcc.crrcr().modify(|_, w| w.hsi48on().set_bit());
    while rcc.crrcr().read().hsi48rdy().bit_is_clear() {}
    rcc.ccipr().modify(|_, w| w.clk48sel().hsi48());
    rcc.ahb2enr().modify(|_, w| w.gpioaen().set_bit().gpiocen().set_bit().aesen().set_bit().rngen().set_bit());
    rcc.apb1enr1().modify(|_, w| w.usart2en().set_bit());
    rcc.apb2enr().modify(|_, w| w.spi1en().set_bit());
}

/// A handle to the running timer.
#[derive(Clone, Copy)]
pub(crate) struct Delay(());

impl Delay {
    pub(crate) fn new(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(0x00ff_ffff);
        timer.clear_current();
        timer.enable_counter();
        Self(())
    }
}

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        // 16 MHz: 62.5 ns a tick. SysTick counts down, 24 bits.
        let (start, wanted) = (SYST::get_current(), (ns / 62).min(0x007f_ffff));
        while start.wrapping_sub(SYST::get_current()) & 0x00ff_ffff < wanted {}
    }
}
