<?php
header("Content-Type: text/html; charset=utf-8");
echo "<!DOCTYPE html>\n<title>Stock</title>\n<table>\n";
echo "<tr><th>No.</th><th>Name</th><th>Left</th><th>Price</th></tr>\n";
for ($no = 1; $no <= 50; $no++) {
    $price = sprintf("%d.%02d", $no * 37 % 100, $no * 59 % 100);
    echo "<tr><td>" . $no . "</td><td>Part " . $no . "</td><td>" . $no * 7 . "</td><td>" . $price . "</td></tr>\n";
}
echo "</table>\n";
