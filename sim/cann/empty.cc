// A library of a release that holds nothing the simulator has.
