//! The decisions of xbeat: values in, values out, one next deadline. No IO, no clock, no unsafe.
#![no_std]
#![forbid(unsafe_code)]
