package torchfile

var ReadFrom = readFrom
