package sampler

// philox is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011): it scrambles the counter c under the key (k0, k1) into four independent words.
// The rounds are written in pairs, which leaves no words to move at the end of a turn.
func philox(c0, c1, c2, c3, k0, k1 uint32) (uint32, uint32, uint32, uint32) {
	const (
		m0, m1 = 0xD2511F53, 0xCD9E8D57
		w0, w1 = 0x9E3779B9, 0xBB67AE85
	)
	for range 5 {
		a, b := uint64(c0)*m0, uint64(c2)*m1
		d0, d2 := uint32(b>>32)^c1^k0, uint32(a>>32)^c3^k1
		c, d := uint64(d0)*m0, uint64(d2)*m1
		c0, c1 = uint32(d>>32)^uint32(b)^(k0+w0), uint32(d)
		c2, c3 = uint32(c>>32)^uint32(a)^(k1+w1), uint32(c)
		k0 += 2 * w0 & (1<<32 - 1)
		k1 += 2 * w1 & (1<<32 - 1)
	}
	return c0, c1, c2, c3
}
