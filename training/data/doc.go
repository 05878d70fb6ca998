// Package data reads training examples, obtains the named data sets and draws the synthetic ones.
//
// A [Set] holds N examples of C×H×W float32 values in one flat slice. [Load] makes one from a name of
// the table [Sources] ("mnist", "brick", "synthetic/rings" …) or from a path: a folder of pictures, a
// folder of IDX files, one picture, an NPY array or a CSV table. Pictures are scaled to [-1, 1] and the
// scale is kept in the set, so that samples can be written in the units of the files.
//
// What an example is, is the set's [Kind]: a picture or a vector, a clip of D frames, a volume of voxels,
// a point set or a trajectory. [Set.Dims] is its shape as networks see it, [Set.Dim] the number of its
// values, whatever the kind. Data in pairs keeps the condition in [Set.Given], example by example, and
// [Batch.Given] is what a loader hands out with it; [Set.Beside] holds what goes with the examples
// besides. [Options] As, Frames, Points and Given say how a path is to be taken. Two domains are two sets.
//
// [Loader] walks over a set in shuffled mini-batches from a position that fits in a checkpoint.
//
// Whatever is read is checked before memory is reserved for it: a damaged, oversized or hostile file is
// a one-line error, and so is a value that is not finite.
package data
