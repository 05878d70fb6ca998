package refeval

// A matrix is a strided view: element (i,j) is at data[i*rs+j*cs].
type matrix[T number] struct {
	data   []T
	rs, cs int
}

func rowMajor[T number](data []T, cols int) matrix[T] { return matrix[T]{data, cols, 1} }

func (m matrix[T]) t() matrix[T] { return matrix[T]{m.data, m.cs, m.rs} }

// Sizes of the packed blocks of gemm: kc×nc of b stay in a second-level cache,
// mr×kc of a in the first.
const (
	mr = 2
	nr = 4
	kc = 256
	nc = 512
)

// gemm sets the row-major m×n matrix dst to a·b, a being m×k and b k×n. Rows are
// split among goroutines where that pays.
func gemm[T number](c *call, m, n, k int, a, b matrix[T], dst []T) {
	clear(dst[:m*n])
	if m == 0 || n == 0 || k == 0 {
		return
	}
	if n < nr || m < mr {
		c.parallel(m, n*k, func(lo, hi int) { gemmSmall(lo, hi, n, k, a, b, dst) })
		return
	}
	packed := make([]T, even(min(kc, k))*(min(nc, n)+nr-1))
	for j0 := 0; j0 < n; j0 += nc {
		nb := min(nc, n-j0)
		for k0 := 0; k0 < k; k0 += kc {
			kb := min(kc, k-k0)
			kp := even(kb) // packed panels are padded to what micro takes at a time
			packB(packed, b, k0, kb, j0, nb)
			c.parallel((m+mr-1)/mr, mr*nb*kb/2, func(lo, hi int) {
				var buf [mr * kc]T
				for p := lo; p < hi; p++ {
					i := p * mr
					two := i+1 < m
					packA(buf[:mr*kp], a, i, two, k0, kb)
					for j := 0; j < nb; j += nr {
						s := micro(buf[:mr*kp], packed[j*kp:(j+nr)*kp])
						w := min(nr, nb-j)
						at := i*n + j0 + j
						for q, v := range s[:w] {
							dst[at+q] += v
						}
						if two {
							for q, v := range s[nr : nr+w] {
								dst[at+n+q] += v
							}
						}
					}
				}
			})
		}
	}
}

func even(k int) int { return (k + 1) &^ 1 }

// packB copies a kb×nb block of b as panels of nr columns, padded with zeros.
func packB[T number](to []T, b matrix[T], k0, kb, j0, nb int) {
	kp := even(kb)
	for j := 0; j < nb; j += nr {
		w := min(nr, nb-j)
		panel := to[j*kp : (j+nr)*kp]
		clear(panel[kb*nr:])
		for p := range kb {
			at := (k0+p)*b.rs + (j0+j)*b.cs
			for q := range w {
				panel[p*nr+q] = b.data[at+q*b.cs]
			}
			for q := w; q < nr; q++ {
				panel[p*nr+q] = 0
			}
		}
	}
}

// packA copies kb columns of one or two rows of a, padded with zeros.
func packA[T number](to []T, a matrix[T], i int, two bool, k0, kb int) {
	clear(to[mr*kb:])
	at := i*a.rs + k0*a.cs
	for p := 0; p < mr*kb; p += mr {
		to[p] = a.data[at]
		to[p+1] = 0
		if two {
			to[p+1] = a.data[at+a.rs]
		}
		at += a.cs
	}
}

// micro is the product of a packed 2×k and a packed k×4 panel, k being even. The
// sums stay in registers; two steps a turn halve the cost of the loop.
func micro[T number](a, b []T) [mr * nr]T {
	var s00, s01, s02, s03, s10, s11, s12, s13 T
	for len(a) >= 2*mr && len(b) >= 2*nr {
		a0, a1 := a[0], a[1]
		b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
		s00 += a0 * b0
		s01 += a0 * b1
		s02 += a0 * b2
		s03 += a0 * b3
		s10 += a1 * b0
		s11 += a1 * b1
		s12 += a1 * b2
		s13 += a1 * b3
		a0, a1 = a[2], a[3]
		b0, b1, b2, b3 = b[4], b[5], b[6], b[7]
		s00 += a0 * b0
		s01 += a0 * b1
		s02 += a0 * b2
		s03 += a0 * b3
		s10 += a1 * b0
		s11 += a1 * b1
		s12 += a1 * b2
		s13 += a1 * b3
		a, b = a[2*mr:], b[2*nr:]
	}
	return [mr * nr]T{s00, s01, s02, s03, s10, s11, s12, s13}
}

// gemmSmall is for matrices too thin for panels.
func gemmSmall[T number](lo, hi, n, k int, a, b matrix[T], dst []T) {
	for i := lo; i < hi; i++ {
		for j := range n {
			var s T
			x, y := i*a.rs, j*b.cs
			for range k {
				s += a.data[x] * b.data[y]
				x += a.cs
				y += b.rs
			}
			dst[i*n+j] = s
		}
	}
}
