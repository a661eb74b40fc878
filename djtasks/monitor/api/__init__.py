"""The monitor for programs: what its pages show and do, as JSON, under the addresses that flower has."""
