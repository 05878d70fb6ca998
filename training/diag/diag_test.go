package diag

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
)

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol) {
		t.Errorf("%s: got %.9g, want %.9g ± %g", what, got, want, tol)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// normals draws n rows of dim independent normals: mean, deviation.
func normals(n, dim int, mean, sd float64, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n*dim)
	for i := range x {
		x[i] = float32(mean + sd*r.NormFloat64())
	}
	return x
}

func TestFrechet(t *testing.T) {
	// Commuting covariances: Σ (√a − √b)² + |shift|².
	a, b := mat.NewSymDense(2, []float64{4, 0, 0, 9}), mat.NewSymDense(2, []float64{1, 0, 0, 16})
	near(t, "diagonal", must(Frechet([]float64{0, 1}, a, []float64{3, 5}, b)), 9+16+1+1, 1e-12)
	// Two dimensions: Tr (AB)^½ = √(Tr AB + 2√det AB), for matrices that do not commute.
	a = mat.NewSymDense(2, []float64{2, 0.5, 0.5, 1})
	b = mat.NewSymDense(2, []float64{1, -0.3, -0.3, 3})
	var ab mat.Dense
	ab.Mul(a, b)
	root := math.Sqrt(mat.Trace(&ab) + 2*math.Sqrt(mat.Det(&ab)))
	near(t, "general", must(Frechet([]float64{0, 0}, a, []float64{0, 0}, b)), 3+4-2*root, 1e-12)
	near(t, "equal", must(Frechet([]float64{1, 2}, a, []float64{1, 2}, a)), 0, 1e-12)
	// Singular covariances are no obstacle.
	one := mat.NewSymDense(2, []float64{1, 1, 1, 1})
	near(t, "singular", must(Frechet([]float64{0, 0}, one, []float64{0, 0}, a)), 2+3-2*math.Sqrt(4), 1e-12)
	if _, err := Frechet([]float64{0}, a, []float64{0, 0}, b); err == nil {
		t.Error("sizes that disagree are accepted")
	}
}

func TestPCA(t *testing.T) {
	// Rows along known orthogonal directions with known variances, in fewer and in more dimensions
	// than rows, small and large enough for either way of finding eigenvectors.
	for _, c := range []struct{ n, dim int }{{200, 20}, {30, 90}, {400, 300}, {300, 700}} {
		r := rand.New(rand.NewPCG(7, uint64(c.dim)))
		dirs := mat.NewDense(3, c.dim, nil)
		for i := range 3 {
			for j := range c.dim {
				dirs.Set(i, j, r.NormFloat64())
			}
		}
		orthonormalRows(dirs)
		// Orthogonal scores make the sample covariance exact: columns of cosines.
		x := make([]float32, c.n*c.dim)
		for i := range c.n {
			for j := range c.dim {
				v := 5.0
				for k, sd := range []float64{3, 2, 1} {
					v += sd * math.Sqrt2 * math.Cos(2*math.Pi*float64((k+1)*i)/float64(c.n)) * dirs.At(k, j)
				}
				x[i*c.dim+j] = float32(v)
			}
		}
		p, err := FitPCA(x, c.dim, 3)
		if err != nil {
			t.Fatal(err)
		}
		y, err := p.Rebuild(x) // three components hold everything
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range y {
			if math.Abs(float64(v-x[i])) > 1e-3 {
				t.Fatalf("value %d rebuilt as %g, wanted %g", i, v, x[i])
			}
		}
		two, err := FitPCA(x, c.dim, 2)
		if err != nil {
			t.Fatal(err)
		}
		if y, err = two.Rebuild(x); err != nil {
			t.Fatal(err)
		}
		left := 0.0 // the third component, of variance 1
		for i, v := range y {
			left += float64(v-x[i]) * float64(v-x[i]) / float64(c.n)
		}
		near(t, "what two components leave", left, 1, 1e-3)
		scale := float64(c.n) / float64(c.n-1)
		for k, v := range []float64{9, 4, 1} {
			near(t, "variance", p.Variance[k], v*scale, 1e-4)
			near(t, "direction", math.Abs(mat.Dot(p.Basis.ColView(k), dirs.RowView(k))), 1, 1e-6)
		}
		near(t, "mean", p.Mean[c.dim/2], 5, 1e-5)
		got := must(p.Coefficients(x[:c.dim]))
		near(t, "coefficient", math.Abs(got.At(0, 0)), 3*math.Sqrt2, 1e-4)
	}
	if _, err := FitPCA(make([]float32, 30), 3, 4); err == nil {
		t.Error("more components than dimensions are accepted")
	}
}

// TestTopEigen compares subspace iteration with the full decomposition on a slowly falling spectrum.
func TestTopEigen(t *testing.T) {
	const n, k = 300, 16
	x := mat.NewDense(400, n, nil)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 400 {
		for j := range n {
			x.Set(i, j, r.NormFloat64()/math.Sqrt(float64(j+1)))
		}
	}
	var a mat.SymDense
	a.SymOuterK(1, x.T())
	got, vectors, err := topEigen(&a, k)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := ritz(&a, k, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range k {
		near(t, "eigenvalue", got[i]/want[i], 1, 1e-7)
		var av mat.VecDense
		av.MulVec(&a, vectors.ColView(i))
		av.AddScaledVec(&av, -got[i], vectors.ColView(i))
		near(t, "residual", mat.Norm(&av, 2)/want[0], 0, 1e-4)
	}
}

func TestFD(t *testing.T) {
	const dim = 40
	train := normals(600, dim, 0, 0.05, 1)
	for i := range 600 { // two strong directions over weak noise
		train[i*dim] *= 40
		train[i*dim+1] *= 20
	}
	fd := must(FitFD(train, dim, 2))
	near(t, "itself", must(fd.Distance(train, train)), 0, 1e-9)
	shifted := append([]float32(nil), train...)
	scaled := append([]float32(nil), train...)
	for i := range 600 {
		shifted[i*dim] += 3
		shifted[i*dim+7] += 100 // outside the two components
		scaled[i*dim] *= 2
	}
	near(t, "shift", must(fd.Distance(train, shifted)), 9, 0.3)
	// Doubling a direction of deviation s adds (2s − s)².
	near(t, "scale", must(fd.Distance(train, scaled)), fd.Variance[0], 0.05*fd.Variance[0])
	floor := must(fd.Floor(train, 1))
	if floor <= 0 || floor > 0.2 || floor != must(fd.Floor(train, 1)) || floor == must(fd.Floor(train, 2)) {
		t.Errorf("floor %g", floor)
	}
	if _, err := fd.Floor(train[:6*dim], 1); err != nil { // every row is needed: two halves of K+1
		t.Error(err)
	}
	if _, err := fd.Distance(train, train[:2*dim]); err == nil || !strings.Contains(err.Error(), "rows") {
		t.Errorf("too few rows: %v", err)
	}
}

func TestEnergyDistance(t *testing.T) {
	// By hand: a = {0, 2}, b = {1, 5}: E|X−Y| = (1+5+1+3)/4, E|X−X′| = 2, E|Y−Y′| = 4.
	near(t, "by hand", must(EnergyDistance([]float32{0, 2}, []float32{1, 5}, 1)), 5-2-4, 1e-12)
	a, b := normals(1500, 1, 0, 1, 1), normals(1500, 1, 0, 1, 2)
	near(t, "equal", must(EnergyDistance(a, b, 1)), 0, 0.01)
	// E|N(m, 2)| = 2/√π·exp(−m²/4) + m·erf(m/2).
	const m = 1.5
	want := 2*(2/math.Sqrt(math.Pi)*math.Exp(-m*m/4)+m*math.Erf(m/2.0)) - 4/math.Sqrt(math.Pi)
	near(t, "shifted", must(EnergyDistance(a, normals(1500, 1, m, 1, 3), 1)), want, 0.1)

	// The way over matrix products agrees with direct subtraction.
	x, y := normals(300, 20, 0.5, 1, 4), normals(280, 20, 0.7, 1.1, 5)
	direct := func(a, b []float32, same bool) float64 {
		sum, pairs := 0.0, 0
		for i := 0; i < len(a); i += 20 {
			for j := 0; j < len(b); j += 20 {
				if same && i == j {
					continue
				}
				d2 := 0.0
				for k := range 20 {
					d2 += math.Pow(float64(a[i+k])-float64(b[j+k]), 2)
				}
				sum, pairs = sum+math.Sqrt(d2), pairs+1
			}
		}
		return sum / float64(pairs)
	}
	near(t, "blocks", must(EnergyDistance(x, y, 20)), 2*direct(x, y, false)-direct(x, x, true)-direct(y, y, true), 1e-9)
	// Values far from zero lose nothing in the products.
	for i := range x {
		x[i] += 1e5
	}
	for i := range y {
		y[i] += 1e5
	}
	near(t, "far away", must(EnergyDistance(x, y, 20)), 2*direct(x, y, false)-direct(x, x, true)-direct(y, y, true), 1e-9)
	if _, err := EnergyDistance([]float32{1, 2}, []float32{float32(math.NaN()), 1}, 1); err == nil || !strings.Contains(err.Error(), "second sample: row 0") {
		t.Errorf("NaN: %v", err)
	}
}

func TestMMD2(t *testing.T) {
	// By hand: k(0,1) = e^{-1/2} in each set's own pair and the distances 0, 1, 1, 0 across.
	e := math.Exp(-0.5)
	near(t, "by hand", must(MMD2([]float32{0, 1}, []float32{0, 1}, 1, 1)), 2*e-2*(2+2*e)/4, 1e-12)
	// E k for N(0,1), N(m,1) and h = 1: h/√(h²+2)·exp(−m²/(2(h²+2))).
	const m = 2
	want := 2 / math.Sqrt(3) * (1 - math.Exp(-m*m/6.0))
	near(t, "shifted", must(MMD2(normals(1500, 1, 0, 1, 1), normals(1500, 1, m, 1, 2), 1, 1)), want, 0.03)
	near(t, "equal", must(MMD2(normals(1500, 1, 0, 1, 1), normals(1500, 1, 0, 1, 2), 1, 0)), 0, 0.005)
	near(t, "median", medianDistance([]float32{0, 1, 5}, 1), 4, 1e-6)
}

func TestSlicedWasserstein(t *testing.T) {
	// {0,1} against {0,1,2}: quantiles differ by 0, then 1 on (1/3, 1/2), 0 on (1/2, 2/3), 1 on (2/3, 1).
	near(t, "unequal sizes", wasserstein1([]float64{0, 1}, []float64{0, 1, 2}), 1.0/6+1.0/3, 1e-12)

	// A shift by v moves every projection u by u·v.
	const dim = 49
	u := Directions(64, dim, 5)
	for k := range 64 {
		norm := 0.0
		for _, v := range u[k*dim : (k+1)*dim] {
			norm += float64(v) * float64(v)
		}
		near(t, "length", norm, 1, 1e-5)
	}
	a := normals(100, dim, 0, 1, 1)
	b := append([]float32(nil), a...)
	want := 0.0
	for i := range b {
		b[i] += 0.25
	}
	for k := range 64 {
		dot := 0.0
		for _, v := range u[k*dim : (k+1)*dim] {
			dot += 0.25 * float64(v)
		}
		want += math.Abs(dot) / 64
	}
	near(t, "shift", must(SlicedWasserstein(a, b, u, dim)), want, 1e-5)
}

func TestPatchSWD(t *testing.T) {
	a := normals(3, 2*12*10, 0, 0.3, 1)
	near(t, "itself", must(PatchSWD(a, 12, 10, a, 12, 10, 2, 1)), 0, 0)
	b := append([]float32(nil), a...)
	for i := range b {
		b[i] += 0.5
	}
	// E|u·1|·0.5 over unit u of d values is about 0.5·√(2/π).
	near(t, "shift", must(PatchSWD(a, 12, 10, b, 12, 10, 2, 1)), 0.5*math.Sqrt(2/math.Pi), 0.05)
	// Order of pictures and sizes do not matter, spatial order inside patches does.
	swapped := append(append([]float32(nil), a[240:]...), a[:240]...)
	near(t, "order", must(PatchSWD(a, 12, 10, swapped, 12, 10, 2, 1)), 0, 1e-12)
	rows, cols := make([]float32, 256), make([]float32, 256)
	for i := range rows {
		rows[i], cols[i] = float32(i/16%2), float32(i%2)
	}
	if d := must(PatchSWD(rows, 16, 16, cols, 16, 16, 1, 1)); d < 0.1 {
		t.Errorf("stripes along and across differ by %g", d)
	}
	// First patch of a 7×8 picture, second one column further.
	p := must(patches([]float32{
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
		28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55,
	}, 1, 7, 8, 1))
	if len(p) != 98 || p[7] != 8 || p[49] != 1 || p[97] != 55 {
		t.Errorf("patches %v", p)
	}
	if _, err := PatchSWD(a, 6, 20, a, 6, 20, 2, 1); err == nil {
		t.Error("pictures smaller than a patch are accepted")
	}
}

func TestMomentGap(t *testing.T) {
	near(t, "gap", must(MomentGap([]float32{1, -3, 3, -3}, []float32{2, -2}, 2)), 1.0/5, 1e-12)
	if _, err := MomentGap([]float32{1, -1}, []float32{2}, 1); err == nil {
		t.Error("zero means are accepted")
	}
}

func TestNearestNeighboursAndDiversity(t *testing.T) {
	d, row, err := NearestNeighbours([]float32{0, 0, 3, 4}, []float32{10, 10, 0, 1, 3, 3}, 2)
	if err != nil || d[0] != 1 || row[0] != 1 || d[1] != 1 || row[1] != 2 {
		t.Errorf("got %v, %v, %v", d, row, err)
	}
	near(t, "diversity", must(Diversity([]float32{0, 0, 3, 4, 0, 0}, 2)), (5+0+5)/3.0/math.Sqrt2, 1e-12)
	near(t, "saturation", Saturation([]float32{1, -1, 0.5, 0.98}, 0.99), 0.5, 0)
	near(t, "saturation of NaN", Saturation([]float32{float32(math.NaN())}, 0.99), 1, 0)
}

func TestPSNR(t *testing.T) {
	near(t, "psnr", must(PSNR([]float32{0, 0}, []float32{0.2, -0.2}, 2)), 20, 1e-5)
	if v := must(PSNR([]float32{1}, []float32{1}, 2)); !math.IsInf(v, 1) {
		t.Errorf("equal: %g", v)
	}
	if _, err := PSNR([]float32{1}, []float32{1, 2}, 2); err == nil {
		t.Error("unequal lengths are accepted")
	}
}

func TestSSIM(t *testing.T) {
	a := normals(2, 13*15, 0, 0.4, 1)
	near(t, "itself", must(SSIM(a, a, 13, 15, 2)), 1, 1e-12)
	near(t, "middle of the window", ssimWindow[5], 0.26601172, 1e-8)
	near(t, "end of the window", ssimWindow[0], 0.00102838, 1e-8)
	// Constant pictures leave the luminance term: (2xy + c₁)/(x² + y² + c₁).
	x, y := make([]float32, 121), make([]float32, 121)
	for i := range x {
		x[i], y[i] = 0.5, 0.25
	}
	c1 := 0.0004
	near(t, "constant", must(SSIM(x, y, 11, 11, 2)), (0.25+c1)/(0.3125+c1), 1e-9)
	// Opposite sign: structure −(2v − c₂)/(2v + c₂) and luminance from one window, by the definition.
	var b []float32
	for _, v := range a {
		b = append(b, -v)
	}
	m, v := 0.0, 0.0
	for r := range 11 {
		for c := range 11 {
			w := ssimWindow[r] * ssimWindow[c]
			m += w * float64(a[r*11+c])
			v += w * float64(a[r*11+c]) * float64(a[r*11+c])
		}
	}
	v -= m * m
	c2 := 0.0036
	near(t, "negative", must(SSIM(a[:121], b[:121], 11, 11, 2)), (-2*m*m+c1)*(-2*v+c2)/((2*m*m+c1)*(2*v+c2)), 1e-6)
	if _, err := SSIM(a, a, 10, 39, 2); err == nil {
		t.Error("pictures below the window are accepted")
	}
}

func TestKLGrid(t *testing.T) {
	logNormal := func(x, y float64) float64 { return -(x*x+y*y)/2 - math.Log(2*math.Pi) }
	g := Grid{-4, 4, -4, 4, 16}
	// Samples of the density: only the bias is left, below cells/(2n).
	kl := must(KLGrid(normals(20000, 2, 0, 1, 1), logNormal, g))
	if kl < 0 || kl > 256.0/40000 {
		t.Errorf("own samples: %g", kl)
	}
	// A shift by m in both coordinates costs m²/2 each.
	near(t, "shifted", must(KLGrid(normals(20000, 2, 0.5, 1, 2), logNormal, g)), 0.25, 0.03)
	// One sample in one cell: −log q of that cell.
	q := math.Pow(math.Erf(0.5/math.Sqrt2)/2, 2)
	near(t, "one cell", must(KLGrid([]float32{0.2, 0.2}, logNormal, g)), -math.Log(q), 1e-2)
	outside := 1 - math.Pow(math.Erf(4/math.Sqrt2), 2)
	near(t, "outside", must(KLGrid([]float32{9, 0.2}, logNormal, g)), -math.Log(outside), 0.2)
}

func TestAveragePrecision(t *testing.T) {
	near(t, "by hand", must(AveragePrecision([]float64{9, 8, 7, 6}, []bool{true, false, true, false})), (1+2.0/3)/2, 1e-12)
	near(t, "ties", must(AveragePrecision([]float64{1, 1, 1, 1}, []bool{true, false, false, false})), 0.25, 1e-12)
	if _, err := AveragePrecision([]float64{1}, []bool{true}); err == nil {
		t.Error("one class alone is accepted")
	}

	// At another share of positives the area is that of the same negatives, each twice.
	scores, odd := []float64{5, 4, 4, 3, 2, 1}, []bool{false, true, false, true, false, false}
	var twice []float64
	var kinds []bool
	for i, s := range scores {
		twice, kinds = append(twice, s), append(kinds, odd[i])
		if !odd[i] {
			twice, kinds = append(twice, s), append(kinds, odd[i])
		}
	}
	near(t, "own share", must(AveragePrecisionAt(scores, odd, 2.0/6)), must(AveragePrecision(scores, odd)), 1e-12)
	near(t, "share of a fifth", must(AveragePrecisionAt(scores, odd, 0.2)), must(AveragePrecision(twice, kinds)), 1e-12)
	near(t, "by hand at a fifth", must(AveragePrecisionAt(scores, odd, 0.2)), (1.0/5+2.0/6)/2, 1e-12)
	for _, share := range []float64{0, 1, -1, math.NaN()} {
		if _, err := AveragePrecisionAt(scores, odd, share); err == nil {
			t.Errorf("a share of %g is accepted", share)
		}
	}
	near(t, "ROC area by hand", must(ROCArea(scores, odd)), (2.5+2)/8, 1e-12)
	near(t, "ROC area of ties", must(ROCArea([]float64{1, 1, 1}, []bool{true, false, true})), 0.5, 1e-12)
	if _, err := ROCArea([]float64{1, math.NaN()}, []bool{true, false}); err == nil {
		t.Error("a score that is NaN is accepted")
	}
}

func TestTotalVariation(t *testing.T) {
	two := []float32{0, 1, 3, 0, 1, 3, 5, 5, 5, 5, 5, 5} // planes of 2×3: 3 and 3 across, none down, then nothing
	near(t, "two planes", TotalVariation(two, 2, 3), 6, 1e-12)
	near(t, "down", TotalVariation([]float32{0, 2, -1}, 3, 1), 5, 1e-12)
}

// autoregressive draws x ← φ·x + ε from its stationary law.
func autoregressive(n int, phi float64, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 9))
	x := make([]float64, n)
	x[0] = r.NormFloat64() / math.Sqrt(1-phi*phi)
	for i := 1; i < n; i++ {
		x[i] = phi*x[i-1] + r.NormFloat64()
	}
	return x
}

func TestChains(t *testing.T) {
	c := must(Autocorrelation([]float64{1, -1, 1, -1}, 2))
	near(t, "lag 1", c[1], -0.75, 1e-12)
	near(t, "lag 2", c[2], 0.5, 1e-12)
	ar := must(Autocorrelation(autoregressive(20000, 0.7, 1), 3))
	near(t, "lag 3 of AR(1)", ar[3], math.Pow(0.7, 3), 0.04)
	if _, err := Autocorrelation([]float64{2, 2, 2}, 1); err == nil {
		t.Error("a constant chain is accepted")
	}

	// Halves {0,2,0,2} (mean 1, variance 4/3) and the same plus 1: W = 4/3, B/n = variance of means.
	near(t, "r-hat by hand", must(RHat([][]float64{{0, 2, 0, 2, 1, 3, 1, 3}})), math.Sqrt((0.75*4/3+0.5)/(4.0/3)), 1e-12)
	var same, apart [][]float64
	for s := range uint64(4) {
		x := autoregressive(2000, 0.5, s)
		same = append(same, x)
		y := make([]float64, len(x))
		for i := range x {
			y[i] = x[i] + 2*float64(s%2)
		}
		apart = append(apart, y)
	}
	near(t, "r-hat of equal chains", must(RHat(same)), 1, 0.01)
	if r := must(RHat(apart)); r < 1.2 {
		t.Errorf("r-hat of chains two apart: %g", r)
	}
	// AR(1) has n·(1−φ)/(1+φ) effective draws.
	near(t, "ess", must(ESS(same))/(8000.0/3), 1, 0.15)
	if e := must(ESS(apart)); e > 100 {
		t.Errorf("effective draws of chains that disagree: %g", e)
	}
}

// pictureLike draws rows whose spectrum falls like that of pictures.
func pictureLike(n, dim int) []float32 {
	x := normals(n, dim, 0, 1, 1)
	for i := range x {
		x[i] *= float32(math.Pow(float64(i%dim+1), -0.7))
	}
	return x
}

func BenchmarkFitPCA784(b *testing.B) {
	x := pictureLike(2000, 784)
	for b.Loop() {
		if _, err := FitPCA(x, 784, 16); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFitPCA12288(b *testing.B) {
	x := pictureLike(1000, 12288)
	for b.Loop() {
		if _, err := FitPCA(x, 12288, 16); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnergyDistance(b *testing.B) {
	x, y := normals(1000, 784, 0, 1, 1), normals(1000, 784, 0, 1, 2)
	for b.Loop() {
		if _, err := EnergyDistance(x, y, 784); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatchSWD(b *testing.B) {
	x, y := normals(50, 784, 0, 1, 1), normals(50, 784, 0, 1, 2)
	for b.Loop() {
		if _, err := PatchSWD(x, 28, 28, y, 28, 28, 1, 1); err != nil {
			b.Fatal(err)
		}
	}
}
