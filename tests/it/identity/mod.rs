//! Sources of users that live elsewhere.

mod keystone_live;
